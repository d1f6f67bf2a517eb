package sagemaker

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/selfalign/selfalign/internal/blob"
)

const (
	testAccess = "AKIDTESTTESTTEST"
	testSecret = "the/secret/that/signs"
	testRegion = "eu-central-1"
)

// service answers as SageMaker does, and CloudWatch Logs, to the actions that the backend uses. Training takes milliseconds; the base model
// says how it goes.
type service struct {
	store      *blob.Store
	mu         sync.Mutex
	jobs       map[string]*training
	made       []string // keys, in order
	loseCreate bool     // the reply to the next CreateTrainingJob is lost
	throttle   int      // requests that are refused for coming too fast
	noLogs     bool     // CloudWatch Logs refuse
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
	scope := "sagemaker"
	if strings.HasPrefix(r.Header.Get("X-Amz-Target"), "Logs_20140328.") {
		scope = "logs"
	}
	if !signed(r, body, scope) || r.Header.Get("Content-Type") != "application/x-amz-json-1.1" {
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
	if scope == "logs" {
		s.logs(w, r, in, fail)
		return
	}
	if s.throttle > 0 {
		s.throttle--
		fail("ThrottlingException", "Rate exceeded")
		return
	}
	name, _ := in["TrainingJobName"].(string)
	job := s.jobs[name]
	action, _ := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "SageMaker.")
	switch {
	case action == "CreateTrainingJob" && job != nil:
		fail("ResourceInUse", "Training job names must be unique within an AWS account and region")
	case action == "CreateTrainingJob":
		told, wrong := s.check(in)
		if wrong != "" {
			fail("ValidationException", "1 validation error detected: "+wrong)
			return
		}
		if told.BaseModel == "beyond the quota" {
			fail("ResourceLimitExceeded", "The account-level service limit 'ml.g5.xlarge for training job usage' is 0 Instances")
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
func signed(r *http.Request, body []byte, scope string) bool {
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
	err = v4.NewSigner().SignHTTP(r.Context(), who, again, hex.EncodeToString(sum[:]), scope, testRegion, at)
	return err == nil && strings.Contains(list, "x-amz-target") && again.Header.Get("Authorization") == got
}

// Limits of the service's own model, which botocore ships: sagemaker/2017-07-24/service-2.json.
var (
	jobName = regexp.MustCompile(`^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$`)
	channel = regexp.MustCompile(`^[A-Za-z0-9.\-_]{1,64}$`)
	address = regexp.MustCompile(`^(https|s3)://([^/]+)/?(.*)$`)
)

// check tells what is wrong with a CreateTrainingJob request, and reads what the program is told.
func (s *service) check(in map[string]any) (Spec, string) {
	var told Spec
	if name, _ := in["TrainingJobName"].(string); len(name) > 63 || !jobName.MatchString(name) {
		return told, "trainingJobName"
	}
	hyper, _ := in["HyperParameters"].(map[string]any)
	for k, v := range hyper {
		if text, ok := v.(string); !ok || len(k) > 256 || len(text) > 2500 || strings.ContainsAny(text, "\n\r") || len(hyper) > 100 {
			return told, "hyperParameters"
		}
	}
	environment, _ := in["Environment"].(map[string]any)
	for k, v := range environment {
		if text, ok := v.(string); !ok || len(k) > 512 || len(text) > 512 || len(environment) > 100 {
			return told, "environment"
		}
	}
	channels, _ := in["InputDataConfig"].([]any)
	for _, c := range channels {
		c, _ := c.(map[string]any)
		name, _ := c["ChannelName"].(string)
		source, _ := c["DataSource"].(map[string]any)["S3DataSource"].(map[string]any)
		uri, _ := source["S3Uri"].(string)
		files, err := s.listed(source)
		if len(channels) > 20 || !channel.MatchString(name) || len(uri) > 1024 || !address.MatchString(uri) || err != nil || len(files) == 0 {
			return told, fmt.Sprintf("inputDataConfig: %s: %v, %v", name, files, err)
		}
	}
	output, _ := in["OutputDataConfig"].(map[string]any)
	if c, _ := output["CompressionType"].(string); c != "GZIP" && c != "NONE" {
		return told, "outputDataConfig.compressionType"
	}
	stop, _ := in["StoppingCondition"].(map[string]any)
	if most, _ := stop["MaxRuntimeInSeconds"].(float64); most < 1 || most > 28*24*3600 || most != float64(int64(most)) {
		return told, "stoppingCondition.maxRuntimeInSeconds"
	}
	raw, _ := hyper[hyperJob].(string)
	if err := json.Unmarshal([]byte(raw), &told); err != nil {
		return told, err.Error()
	}
	return told, ""
}

// listed returns the keys that a channel's manifest names, all of which must be there.
func (s *service) listed(source map[string]any) ([]string, error) {
	uri, _ := source["S3Uri"].(string)
	if source["S3DataType"] != "ManifestFile" {
		return nil, errors.New("not a manifest")
	}
	raw, err := s.store.Get(context.Background(), strings.TrimPrefix(uri, s.store.URI("")))
	if err != nil {
		return nil, err
	}
	var list []json.RawMessage
	var head struct{ Prefix string }
	if err = json.Unmarshal(raw, &list); err != nil || len(list) < 2 {
		return nil, fmt.Errorf("manifest %s: %w", raw, cmp.Or(err, errors.New("too short")))
	}
	if err = json.Unmarshal(list[0], &head); err != nil {
		return nil, err
	}
	var out []string
	for _, item := range list[1:] {
		var suffix string
		if err = json.Unmarshal(item, &suffix); err != nil {
			return nil, err
		}
		key := strings.TrimPrefix(head.Prefix+suffix, s.store.URI(""))
		if _, err = s.store.Stat(context.Background(), key); err != nil {
			return nil, err
		}
		out = append(out, key)
	}
	return out, nil
}

// logs answers as CloudWatch Logs do. A job has two streams, as after an interruption, and another job's name begins like its own.
func (s *service) logs(w http.ResponseWriter, r *http.Request, in map[string]any, fail func(kind, words string)) {
	if s.noLogs {
		fail("AccessDeniedException", "not authorized to perform: logs:DescribeLogStreams")
		return
	}
	if in["logGroupName"] != "/aws/sagemaker/TrainingJobs" {
		fail("ResourceNotFoundException", "The specified log group does not exist.")
		return
	}
	switch strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "Logs_20140328.") {
	case "DescribeLogStreams":
		prefix, _ := in["logStreamNamePrefix"].(string)
		var streams []map[string]string
		for name := range s.jobs {
			for _, stream := range []string{name + "/algo-1-1700000000000", name + "/algo-1-1700000000999", name + "/algo-2-1700000000000"} {
				if strings.HasPrefix(stream, prefix) {
					streams = append(streams, map[string]string{"logStreamName": stream})
				}
			}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"logStreams": streams})
	case "GetLogEvents":
		stream, _ := in["logStreamName"].(string)
		name, ours := strings.CutSuffix(stream, "/algo-1-1700000000999")
		job := s.jobs[name]
		if !ours || job == nil {
			_ = json.NewEncoder(w).Encode(map[string]any{"events": []any{map[string]any{"timestamp": 1, "message": `{"step": 99999}`}}})
			return
		}
		var events []map[string]any
		for _, line := range job.log() {
			events = append(events, map[string]any{"timestamp": 1, "message": line, "ingestionTime": 2})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"events": events, "nextForwardToken": "f/1", "nextBackwardToken": "b/1"})
	default:
		fail("UnknownOperationException", "")
	}
}

func (t *training) log() []string {
	lines := []string{"Loading checkpoint shards", `{"steps": 100000, "not_expressed": ["dropout"]}`}
	if since := time.Since(t.begun).Milliseconds() / 10; since > 0 {
		lines = append(lines, fmt.Sprintf(`{"step": %d, "loss": %g}`, since, 2/float64(since)))
	}
	if t.told.BaseModel == "broken" {
		lines = append(lines, "RuntimeError: the loss exploded")
	}
	return lines
}

func (t *training) now(name string) map[string]any {
	since := time.Since(t.begun)
	status, second := "InProgress", "Training"
	out := map[string]any{
		"TrainingJobName": name, "HyperParameters": t.body["HyperParameters"], "ResourceConfig": t.body["ResourceConfig"],
		"StoppingCondition": t.body["StoppingCondition"], "OutputDataConfig": t.body["OutputDataConfig"],
	}
	switch {
	case t.stopped:
		status, second = "Stopped", "Stopped"
	case since < 20*time.Millisecond:
		second = "Starting"
	case t.told.BaseModel == "quick" && since > 60*time.Millisecond:
		status, second = "Completed", "Completed"
		out["BillableTimeInSeconds"] = 1800
		end := "/output/model.tar.gz"
		if t.body["OutputDataConfig"].(map[string]any)["CompressionType"] == "NONE" {
			end = "/output/model/"
		}
		out["ModelArtifacts"] = map[string]string{"S3ModelArtifacts": t.told.Artifacts + "/" + name + end}
		out["FinalMetricDataList"] = []map[string]any{{"MetricName": "loss", "Value": 0.25}}
	case t.told.BaseModel == "broken":
		status, second = "Failed", "Failed"
		out["FailureReason"] = "AlgorithmError: , exit code: 1" // the words are in the log alone
	}
	out["TrainingJobStatus"], out["SecondaryStatus"] = status, second
	return out
}
