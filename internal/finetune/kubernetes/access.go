package kubernetes

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/selfalign/selfalign/internal/finetune"
)

// serviceAccount is where a pod finds what its service account may use.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

// access is how to reach an API server.
type access struct {
	server, namespace string
	client            *http.Client
	sign              func(*http.Request, []byte) error
}

// accessOf reads a kubeconfig, or with "" what a pod is given.
func accessOf(path string) (access, error) {
	if path == "" {
		host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
		if host == "" || port == "" {
			return access{}, errors.New("this worker does not run in a cluster (Try: kubeconfig in the trainer's settings)")
		}
		return inCluster(serviceAccount, "https://"+net.JoinHostPort(host, port))
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return access{}, fmt.Errorf("kubeconfig: %w", err)
	}
	return fromKubeconfig(raw, filepath.Dir(path))
}

func inCluster(dir, server string) (access, error) {
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return access{}, fmt.Errorf("service account: %w", err)
	}
	a := access{server: server, namespace: "default", sign: bearerFrom(filepath.Join(dir, "token"))}
	if raw, err := os.ReadFile(filepath.Join(dir, "namespace")); err == nil && len(raw) > 0 {
		a.namespace = strings.TrimSpace(string(raw))
	}
	a.client, err = clientOf(ca, &tls.Config{MinVersion: tls.VersionTLS12})
	return a, err
}

// bearerFrom reads the token from its file each time: the kubelet replaces it.
func bearerFrom(path string) func(*http.Request, []byte) error {
	return func(req *http.Request, _ []byte) error {
		raw, err := os.ReadFile(path)
		if err != nil {
			return &finetune.Error{Class: finetune.ClassAuth, Message: "read the cluster's token", Err: err}
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(raw)))
		return nil
	}
}

func clientOf(ca []byte, c *tls.Config) (*http.Client, error) {
	if len(ca) > 0 {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(ca) {
			return nil, errors.New("the cluster's certificate authority is no certificate")
		}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: c, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}}, nil
}

// kubeconfig is what is read of a kubeconfig file. https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/
type kubeconfig struct {
	Current  string `yaml:"current-context"`
	Contexts []struct {
		Name    string `yaml:"name"`
		Context struct {
			Cluster   string `yaml:"cluster"`
			User      string `yaml:"user"`
			Namespace string `yaml:"namespace"`
		} `yaml:"context"`
	} `yaml:"contexts"`
	Clusters []struct {
		Name    string `yaml:"name"`
		Cluster struct {
			Server     string `yaml:"server"`
			CAFile     string `yaml:"certificate-authority"`
			CA         string `yaml:"certificate-authority-data"`
			ServerName string `yaml:"tls-server-name"`
			Insecure   bool   `yaml:"insecure-skip-tls-verify"`
		} `yaml:"cluster"`
	} `yaml:"clusters"`
	Users []struct {
		Name string `yaml:"name"`
		User struct {
			Token     string `yaml:"token"`
			TokenFile string `yaml:"tokenFile"`
			CertFile  string `yaml:"client-certificate"`
			Cert      string `yaml:"client-certificate-data"`
			KeyFile   string `yaml:"client-key"`
			Key       string `yaml:"client-key-data"`
			Exec      *struct {
				Command string `yaml:"command"`
			} `yaml:"exec"`
		} `yaml:"user"`
	} `yaml:"users"`
}

func fromKubeconfig(raw []byte, dir string) (a access, err error) {
	var k kubeconfig
	if err := yaml.Unmarshal(raw, &k); err != nil {
		return a, errors.New("kubeconfig: it cannot be read as YAML") // the library's words would show what stands there
	}
	a.namespace = "default"
	var cluster, user string
	for _, c := range k.Contexts {
		if c.Name == k.Current {
			cluster, user = c.Context.Cluster, c.Context.User
			if c.Context.Namespace != "" {
				a.namespace = c.Context.Namespace
			}
		}
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	var ca []byte
	for _, found := range k.Clusters {
		if found.Name != cluster {
			continue
		}
		a.server, c.ServerName = found.Cluster.Server, found.Cluster.ServerName
		if found.Cluster.Insecure {
			return a, errors.New("kubeconfig: insecure-skip-tls-verify is not followed (Try: certificate-authority-data)")
		}
		if ca, err = dataOr(found.Cluster.CA, found.Cluster.CAFile, dir); err != nil {
			return a, fmt.Errorf("kubeconfig: certificate-authority: %w", err)
		}
	}
	if a.server == "" {
		return a, fmt.Errorf("kubeconfig: current-context %q names no cluster with a server", k.Current)
	}
	for _, found := range k.Users {
		u := found.User
		if found.Name != user {
			continue
		}
		switch {
		case u.TokenFile != "":
			a.sign = bearerFrom(at(u.TokenFile, dir))
		case u.Token != "":
			a.sign = func(req *http.Request, _ []byte) error {
				req.Header.Set("Authorization", "Bearer "+u.Token)
				return nil
			}
		case u.Cert+u.CertFile != "":
			cert, certErr := dataOr(u.Cert, u.CertFile, dir)
			key, keyErr := dataOr(u.Key, u.KeyFile, dir)
			pair, pairErr := tls.X509KeyPair(cert, key)
			if errors.Join(certErr, keyErr, pairErr) != nil {
				return a, errors.New("kubeconfig: client-certificate and client-key do not make a pair")
			}
			c.Certificates = []tls.Certificate{pair}
		case u.Exec != nil:
			return a, errors.New("kubeconfig: users with exec are not supported (Try: tokenFile with the token of a service account, or run the worker in the cluster)")
		}
	}
	a.client, err = clientOf(ca, c)
	return a, err
}

func dataOr(data, path, dir string) ([]byte, error) {
	if data != "" {
		return base64.StdEncoding.DecodeString(data)
	}
	if path == "" {
		return nil, nil
	}
	return os.ReadFile(at(path, dir))
}

func at(path, dir string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
