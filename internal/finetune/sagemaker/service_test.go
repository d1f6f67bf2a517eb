package sagemaker

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	testAccess = "AKIDTESTTESTTEST"
	testSecret = "the/secret/that/signs"
	testRegion = "eu-central-1"
)

// service answers as SageMaker does, to the three actions that the backend uses. Training takes milliseconds; the base model
// says how it goes.
type service struct {
	mu         sync.Mutex
	jobs       map[string]*training
	made       []string // keys, in order
	loseCreate bool     // the reply to the next CreateTrainingJob is lost
}

type training struct {
	body    map[string]any
	told    Spec
	begun   time.Time
	stopped bool
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fail := func(kind, words string) {
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": kind, "message": words})
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	if !signed(r, body) || r.Header.Get("Content-Type") != "application/x-amz-json-1.1" {
		fail("InvalidSignatureException", "The request signature we calculated does not match the signature you provided.")
		return
	}
	var in map[string]any
	if err := json.Unmarshal(body, &in); err != nil {
		fail("SerializationException", err.Error())
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name, _ := in["TrainingJobName"].(string)
	job := s.jobs[name]
	action, _ := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "SageMaker.")
	switch {
	case action == "CreateTrainingJob" && job != nil:
		fail("ResourceInUse", "Training job names must be unique within an AWS account and region")
	case action == "CreateTrainingJob":
		told := Spec{}
		hyper, _ := in["HyperParameters"].(map[string]any)
		raw, _ := hyper[hyperJob].(string)
		if json.Unmarshal([]byte(raw), &told) != nil || len(name) > 63 {
			fail("ValidationException", "1 validation error detected")
			return
		}
		s.jobs[name] = &training{body: in, told: told, begun: time.Now()}
		s.made = append(s.made, told.Key)
		if s.loseCreate {
			s.loseCreate = false
			panic(http.ErrAbortHandler)
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"TrainingJobArn": "arn:aws:sagemaker:eu-central-1:1:training-job/" + name})
	case job == nil:
		fail("ValidationException", "Requested resource not found.")
	case action == "DescribeTrainingJob":
		_ = json.NewEncoder(w).Encode(job.now(name))
	case action == "StopTrainingJob":
		if job.now(name)["TrainingJobStatus"] != "InProgress" {
			fail("ValidationException", "The request was rejected because the training job is in another status")
			return
		}
		job.stopped = true
	default:
		fail("UnknownOperationException", action)
	}
}

// signed reports whether signing the request again gives the signature that it has.
func signed(r *http.Request, body []byte) bool {
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	again, reqErr := http.NewRequest(r.Method, "http://"+r.Host+r.URL.Path, bytes.NewReader(body))
	if err != nil || reqErr != nil {
		return false
	}
	got := r.Header.Get("Authorization")
	_, list, _ := strings.Cut(got, "SignedHeaders=")
	list, _, _ = strings.Cut(list, ",")
	for name := range strings.SplitSeq(list, ";") {
		if name != "host" && name != "content-length" {
			again.Header.Set(name, r.Header.Get(name))
		}
	}
	sum := sha256.Sum256(body)
	who := aws.Credentials{AccessKeyID: testAccess, SecretAccessKey: testSecret}
	err = v4.NewSigner().SignHTTP(r.Context(), who, again, hex.EncodeToString(sum[:]), "sagemaker", testRegion, at)
	return err == nil && strings.Contains(list, "x-amz-target") && again.Header.Get("Authorization") == got
}

func (t *training) now(name string) map[string]any {
	since := time.Since(t.begun)
	status, second := "InProgress", "Training"
	out := map[string]any{
		"TrainingJobName": name, "HyperParameters": t.body["HyperParameters"], "ResourceConfig": t.body["ResourceConfig"],
		"FinalMetricDataList": []map[string]any{
			{"MetricName": "step", "Value": since.Milliseconds() / 10}, {"MetricName": "steps", "Value": 100_000}, {"MetricName": "loss", "Value": 0.5},
		},
	}
	switch {
	case t.stopped:
		status, second = "Stopped", "Stopped"
	case since < 20*time.Millisecond:
		second = "Starting"
	case t.told.BaseModel == "quick" && since > 60*time.Millisecond:
		status, second = "Completed", "Completed"
		out["BillableTimeInSeconds"] = 1800
		out["ModelArtifacts"] = map[string]string{"S3ModelArtifacts": t.told.Artifacts + "/" + name + "/output/model.tar.gz"}
	case t.told.BaseModel == "broken":
		status, second = "Failed", "Failed"
		out["FailureReason"] = "AlgorithmError: the loss exploded, exit code: 1"
	}
	out["TrainingJobStatus"], out["SecondaryStatus"] = status, second
	return out
}
