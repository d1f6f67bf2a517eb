// Package sagemaker trains with training jobs of Amazon SageMaker, made of a template that only the worker's settings define.
// It speaks the service's JSON protocol, three actions of it and two of CloudWatch Logs, signed by the AWS SDK's signer.
//
// Wire reference: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTrainingJob.html and its neighbours;
// https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_GetLogEvents.html.
package sagemaker

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/goccy/go-yaml"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/rest"
	"github.com/selfalign/selfalign/internal/finetune/trainfile"
)

// Config says what to run and where.
type Config struct {
	// Template is a CreateTrainingJob request as YAML: at least AlgorithmSpecification, RoleArn, ResourceConfig and
	// StoppingCondition. Name, input channels and output path are set here, and the hyperparameter selfalign_job.
	Template string
	// Region of the jobs; "" is the one of the AWS settings around the worker.
	Region string
	// URL of the API; "" is the region's own. LogsURL is that of CloudWatch Logs.
	URL, LogsURL string
	// InstanceHour is what one instance costs in US dollars an hour; 0 is not known.
	InstanceHour float64
	// Keep leaves checkpoints, and what a cancelled job wrote, in the bucket; else Clean removes them.
	Keep bool
	// Credentials sign requests; nil is AWS's default chain.
	Credentials aws.CredentialsProvider
	// Retry changes how patiently the API is asked, for tests.
	Retry rest.Config
}

// Backend implements finetune.Backend. A job's id is its name, finetune.Job.Name.
type Backend struct {
	cfg       Config
	template  map[string]any
	api, logs *rest.Client
	store     *blob.Store
}

var (
	_ finetune.Backend = (*Backend)(nil)
	_ finetune.Cleaner = (*Backend)(nil)
)

// Spec is the hyperparameter selfalign_job: what the program is told.
type Spec struct {
	Format         int            `json:"format"` // 1
	Key            string         `json:"key"`
	Name           string         `json:"name"`
	BaseModel      string         `json:"base_model"`
	Suffix         string         `json:"suffix"`
	TrainingFile   string         `json:"training_file"` // s3:// address; also the channel "training"
	Examples       int64          `json:"examples"`
	ValidationFile string         `json:"validation_file,omitempty"` // also the channel "validation"
	Hyper          finetune.Hyper `json:"hyperparameters"`
	Seed           int64          `json:"seed"`
	Artifacts      string         `json:"artifacts"` // s3:// address under which SageMaker leaves what the program wrote
	// Checkpoints is the container's folder for them, which SageMaker keeps in the bucket and fills again after an
	// interruption; "" where the template asks for none.
	Checkpoints string `json:"checkpoints,omitempty"`
}

// New returns a backend. It makes no request.
func New(ctx context.Context, cfg Config, store *blob.Store) (*Backend, error) {
	if store == nil {
		return nil, errors.New("sagemaker: no store")
	}
	b := &Backend{store: store}
	if err := yaml.Unmarshal([]byte(cfg.Template), &b.template); err != nil {
		return nil, fmt.Errorf("sagemaker: template: %w", err)
	}
	for _, name := range []string{"AlgorithmSpecification", "RoleArn", "ResourceConfig", "StoppingCondition"} {
		if b.template[name] == nil {
			return nil, fmt.Errorf("sagemaker: template: no %s (Try: the example in docs/operations.md)", name)
		}
	}
	if cfg.Region == "" || cfg.Credentials == nil {
		around, err := config.LoadDefaultConfig(ctx)
		if err != nil {
			return nil, fmt.Errorf("sagemaker: read AWS settings: %w", err)
		}
		if cfg.Region == "" {
			cfg.Region = around.Region
		}
		if cfg.Credentials == nil {
			cfg.Credentials = around.Credentials
		}
	}
	if cfg.Region == "" {
		return nil, errors.New("sagemaker: no region (Try: region in the trainer's settings, or AWS_REGION)")
	}
	domain := cfg.Region + ".amazonaws.com"
	if strings.HasPrefix(cfg.Region, "cn-") {
		domain += ".cn"
	}
	cfg.URL, cfg.LogsURL = cmp.Or(cfg.URL, "https://api.sagemaker."+domain), cmp.Or(cfg.LogsURL, "https://logs."+domain)
	b.cfg = cfg
	over := cfg.Retry
	over.URL, over.Sign = cfg.URL, b.signs("sagemaker")
	var err error
	if b.api, err = rest.New(over); err != nil {
		return nil, err
	}
	// Logs are worth a moment, not the look at the job.
	over.URL, over.Sign, over.Attempts, over.Timeout = cfg.LogsURL, b.signs("logs"), 1, 10*time.Second
	b.logs, err = rest.New(over)
	return b, err
}

// signs returns what signs requests to a service.
func (b *Backend) signs(service string) func(*http.Request, []byte) error {
	return func(req *http.Request, body []byte) error {
		ctx := req.Context()
		who, err := b.cfg.Credentials.Retrieve(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return &finetune.Error{Class: finetune.ClassAuth, Code: "credentials", Message: finetune.Clip(err.Error())}
		}
		sum := sha256.Sum256(body)
		return v4.NewSigner().SignHTTP(ctx, who, req, hex.EncodeToString(sum[:]), service, b.cfg.Region, time.Now())
	}
}

// request is one of AWS's JSON protocol, version 1.1.
func request(target string, in, into any) rest.Request {
	return rest.Request{
		Method: http.MethodPost, Path: "/", Body: in, Into: into,
		Headers: map[string]string{"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target},
	}
}

// call makes one action. Every action here may be repeated.
func (b *Backend) call(ctx context.Context, action string, in, into any) error {
	err := b.api.Do(ctx, request("SageMaker."+action, in, into))
	var e *finetune.Error
	if errors.As(err, &e) && e.Status == http.StatusBadRequest {
		switch e.Code {
		case "ResourceNotFound":
			e.Class = finetune.ClassNotFound
		case "ValidationException":
			if action == "DescribeTrainingJob" { // the name is well-formed, so it is one that the service does not know
				e.Class = finetune.ClassNotFound
			}
		case "ResourceLimitExceeded":
			e.Class = finetune.ClassQuota
		case "AccessDeniedException", "UnrecognizedClientException", "ExpiredTokenException", "InvalidSignatureException",
			"IncompleteSignature", "InvalidClientTokenId", "MissingAuthenticationTokenException", "OptInRequired":
			e.Class = finetune.ClassAuth
		}
	}
	return err
}

// Submit implements finetune.Backend: SageMaker refuses a second job of one name.
func (b *Backend) Submit(ctx context.Context, job finetune.Job) (string, error) {
	if err := b.submit(ctx, job); err != nil {
		var e *finetune.Error
		if errors.As(err, &e) && e.Class == finetune.ClassNotFound {
			e.Class = finetune.ClassPermanent // something that the template names
		}
		return "", fmt.Errorf("submit fine-tuning job %s: %w", job.Name(), err)
	}
	return job.Name(), nil
}

func (b *Backend) submit(ctx context.Context, job finetune.Job) error {
	if err := job.Validate(); err != nil {
		return err
	}
	if err := b.stands(ctx, job); finetune.ClassOf(err) != finetune.ClassNotFound {
		return err
	}
	if _, _, err := trainfile.Inspect(ctx, b.store, job, 0); err != nil {
		return err
	}
	made, err := b.order(job)
	if err != nil {
		return err
	}
	for key, list := range made.manifests {
		if err := b.store.Put(ctx, key, list); err != nil { // the same bytes each time
			return trainfile.StoreError("write the list of a channel's files", err)
		}
	}
	err = b.call(ctx, "CreateTrainingJob", made.body, nil)
	var e *finetune.Error
	if errors.As(err, &e) && e.Code == "ResourceInUse" {
		return b.stands(ctx, job) // an earlier request made it, or another worker
	}
	return err
}

// stands returns nil where the job is there and is the key's.
func (b *Backend) stands(ctx context.Context, job finetune.Job) error {
	d, err := b.describe(ctx, job.Name())
	if err != nil {
		return err
	}
	if told, ours := d.told(); !ours || told.Key != job.Key {
		return &finetune.Error{Class: finetune.ClassPermanent, Code: "key_taken", Message: "a job named " + job.Name() + " is there and belongs to somebody else"}
	}
	return nil
}

// Cancel implements finetune.Backend.
func (b *Backend) Cancel(ctx context.Context, id string) error {
	d, err := b.describe(ctx, id)
	if err == nil && d.TrainingJobStatus == "InProgress" {
		err = b.call(ctx, "StopTrainingJob", map[string]string{"TrainingJobName": id}, nil)
		if err != nil { // refused since it ended meanwhile
			if now, lookErr := b.describe(ctx, id); lookErr == nil && now.TrainingJobStatus != "InProgress" {
				return nil
			}
		}
	}
	if err != nil {
		return fmt.Errorf("cancel fine-tuning job %.100q: %w", id, err)
	}
	return nil
}
