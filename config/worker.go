package config

import (
	"strings"
	"time"
)

// Worker is the settings of a worker: where Temporal and S3 are, and what the names in run specs stand for.
// Keys are never written here: only the names of environment variables that hold them.
type Worker struct {
	// Where the Temporal service is.
	Temporal Temporal `yaml:"temporal" json:"temporal"`
	// The bucket that holds every dataset.
	Store Store `yaml:"store" json:"store" jsonschema:"required"`
	// OpenAI-compatible endpoints, by the names that run specs use.
	Providers map[string]Provider `yaml:"providers" json:"providers" jsonschema:"required"`
	// Fine-tuning services and programs, by the names that run specs use.
	Trainers map[string]Trainer `yaml:"trainers" json:"trainers"`
	// What makes trained models answer, by the names that run specs use.
	Servers map[string]Server `yaml:"servers" json:"servers"`
	// The Hugging Face Hub: where hf:// sources are read from and datasets are pushed to.
	Hub Hub `yaml:"hub" json:"hub"`
	// Places that run specs may have a worker read.
	Sources Sources `yaml:"sources" json:"sources"`
	// Where training services call back when a job has ended, so that its end is noticed before the next look.
	Callbacks Callbacks `yaml:"callbacks" json:"callbacks"`
	// How this worker process runs.
	Process Process `yaml:"process" json:"process"`
}

// Temporal is where the Temporal service is. Empty fields come from Temporal's standard environment variables and profile.
type Temporal struct {
	// Host and port.
	Address string `yaml:"address" json:"address"`
	// Namespace.
	Namespace string `yaml:"namespace" json:"namespace"`
	// Profile of Temporal's own configuration file.
	Profile string `yaml:"profile" json:"profile"`
	// Prefix of the task queues.
	Queue string `yaml:"queue" json:"queue" jsonschema:"pattern=^[A-Za-z0-9][A-Za-z0-9._-]{0\\,62}$"`
	// Address of the Web UI, for links.
	UI string `yaml:"ui" json:"ui"`
}

// Store is the bucket that holds every dataset.
type Store struct {
	// Name of the bucket.
	Bucket string `yaml:"bucket" json:"bucket" jsonschema:"required" try:"the name of an S3 bucket that exists"`
	// Put before every key.
	Prefix string `yaml:"prefix" json:"prefix"`
	// Address of an S3-compatible server other than AWS.
	Endpoint string `yaml:"endpoint" json:"endpoint"`
	// Region.
	Region string `yaml:"region" json:"region"`
	// Put the bucket's name into the path and not into the host; most servers other than AWS want that.
	PathStyle bool `yaml:"path_style" json:"path_style"`
	// Environment variable with the access key; default: the AWS default chain.
	AccessKeyEnv string `yaml:"access_key_env" json:"access_key_env" jsonschema:"pattern=^[A-Za-z_][A-Za-z0-9_]*$"`
	// Environment variable with the secret key; default: the AWS default chain.
	SecretKeyEnv string `yaml:"secret_key_env" json:"secret_key_env" jsonschema:"pattern=^[A-Za-z_][A-Za-z0-9_]*$"`
}

// Provider is an OpenAI-compatible endpoint.
type Provider struct {
	// Address, with /v1 where the endpoint has it; absent only beside inference_endpoint.
	URL string `yaml:"url" json:"url"`
	// A Hugging Face Inference Endpoint by its name, in place of url. Key_env names the variable with the token.
	InferenceEndpoint *InferenceEndpoint `yaml:"inference_endpoint" json:"inference_endpoint"`
	// Environment variable with the key; absent: no key is sent.
	KeyEnv string `yaml:"key_env" json:"key_env" jsonschema:"pattern=^[A-Za-z_][A-Za-z0-9_]*$"`
	// The kind of request: chat, or completions for base models without a chat template.
	API string `yaml:"api" json:"api" jsonschema:"enum=chat,enum=completions"`
	// With completions: the model's tokenizer, whose chat template makes one text of a conversation. Its id on the Hub, as owner/name or hf://owner/name, with @revision to pin it; or its tokenizer_config.json or the folder of it on every worker's machine, as /folder or ./folder. Absent: plain headers, for base models.
	Tokenizer string `yaml:"tokenizer" json:"tokenizer"`
	// Longest wait for one answer.
	Timeout Duration `yaml:"timeout" json:"timeout" min:"1s" max:"1h"`
	// What the endpoint allows.
	Limits Limits `yaml:"limits" json:"limits"`
	// Prices by model; a name ending in * covers all models whose names begin with the rest. A model without a price costs an unknown amount.
	Prices map[string]Price `yaml:"prices" json:"prices"`
	// The endpoint has the Batch API (files and batches), and stages with delivery auto use it.
	Batch bool `yaml:"batch" json:"batch"`
	// Share of the price that the Batch API takes off.
	BatchDiscount float64 `yaml:"batch_discount" json:"batch_discount" jsonschema:"minimum=0,maximum=1"`
}

// Limits are what an endpoint allows.
type Limits struct {
	// Calls in flight at most, for each worker process.
	InFlight int `yaml:"in_flight" json:"in_flight" jsonschema:"minimum=1,maximum=100000"`
	// Requests a minute, over all worker processes; 0: not known.
	RequestsPerMinute float64 `yaml:"requests_per_minute" json:"requests_per_minute" jsonschema:"minimum=0"`
	// Tokens a minute, over all worker processes; 0: not known.
	TokensPerMinute float64 `yaml:"tokens_per_minute" json:"tokens_per_minute" jsonschema:"minimum=0"`
	// Worker processes that share the rates; 0: not known, each relies on the endpoint's answers.
	Workers int `yaml:"workers" json:"workers" jsonschema:"minimum=0,maximum=100000"`
}

// Price is in US dollars per million tokens.
type Price struct {
	// Of prompts.
	Input float64 `yaml:"input" json:"input" jsonschema:"minimum=0,maximum=100000"`
	// Of the part of a prompt that the provider had cached; 0: as input.
	CachedInput float64 `yaml:"cached_input" json:"cached_input" jsonschema:"minimum=0,maximum=100000"`
	// Of answers.
	Output float64 `yaml:"output" json:"output" jsonschema:"minimum=0,maximum=100000"`
	// Of trained tokens.
	Training float64 `yaml:"training" json:"training" jsonschema:"minimum=0,maximum=100000"`
	// Date on which the price was read, YYYY-MM-DD.
	AsOf string `yaml:"as_of" json:"as_of" jsonschema:"pattern=^[0-9]{4}-[0-9]{2}-[0-9]{2}$"`
}

// Backends of trainers and servers.
const (
	BackendOpenAI   = "openai"
	BackendTogether = "together"
	BackendCommand  = "command"
	BackendSlurm    = "slurm"
	BackendHTTP     = "http"

	BackendKubernetes = "kubernetes"
	BackendSageMaker  = "sagemaker"
	BackendStatic     = "static"
)

// Trainer runs fine-tuning jobs.
type Trainer struct {
	// What runs the jobs: openai (files and fine-tuning jobs of a provider), together (Together AI), command (a program on the worker's machine), slurm (a batch job of a cluster), kubernetes (a Job or TrainJob of a cluster), sagemaker (a training job of Amazon SageMaker) or http (a service of your own that takes signed webhooks).
	Backend string `yaml:"backend" json:"backend" jsonschema:"required,enum=openai,enum=together,enum=command,enum=slurm,enum=http,enum=kubernetes,enum=sagemaker"`
	// Backends openai and together: the provider whose files and fine-tuning jobs are used.
	Provider string `yaml:"provider" json:"provider"`
	// Backend http: address of the service. Backend sagemaker: address of the API, such as a VPC endpoint; absent: the region's own.
	URL string `yaml:"url" json:"url"`
	// Backend http: environment variable with the secret (whsec_ and base64) that signs what is sent both ways.
	SecretEnv string `yaml:"secret_env" json:"secret_env" jsonschema:"pattern=^[A-Za-z_][A-Za-z0-9_]*$"`
	// Backend together: rank of the adapter to train; 0: all weights, as in the paper.
	LoRA int `yaml:"lora" json:"lora" jsonschema:"minimum=0,maximum=1024"`
	// Backend command: program and arguments.
	Command []string `yaml:"command" json:"command" jsonschema:"maxItems=1000"`
	// Backend kubernetes: file with the address and credentials of the cluster; absent: the cluster that the worker runs in.
	Kubeconfig string `yaml:"kubeconfig" json:"kubeconfig"`
	// Backend kubernetes: namespace of jobs; default: the kubeconfig's, or the worker's own.
	Namespace string `yaml:"namespace" json:"namespace" jsonschema:"pattern=^[a-z0-9]([a-z0-9-]{0\\,61}[a-z0-9])?$"`
	// Backend slurm: the batch script, #SBATCH lines first. Backend kubernetes: the manifest of a Job (batch/v1) or TrainJob. Backend sagemaker: a CreateTrainingJob request, without name, training data and output path.
	Template string `yaml:"template" json:"template"`
	// Backend sagemaker: region of the jobs; absent: the one of the AWS settings around the worker.
	Region string `yaml:"region" json:"region"`
	// Backends other than openai and together: US dollars that the machines of a job cost an hour, of backend sagemaker one instance: for plans, for what a job has cost, and for the time limit that a budget sets. Absent: not known.
	InstanceHour float64 `yaml:"instance_hour" json:"instance_hour" jsonschema:"minimum=0,maximum=100000"`
	// Tokens that a job trains on in a second, as you measured it: with it plans tell the time and, with instance_hour, the cost of training. Absent: not known.
	TokensPerSecond float64 `yaml:"tokens_per_second" json:"tokens_per_second" jsonschema:"minimum=0,maximum=1000000000"`
	// Backends command and slurm: folder for jobs, on the worker's machine; for slurm under the same path on the nodes.
	Dir string `yaml:"dir" json:"dir"`
	// Backends command and slurm: names of environment variables that the program gets from the worker's besides the usual ones; NAME=value sets one.
	Env []string `yaml:"env" json:"env" jsonschema:"maxItems=1000"`
	// Backend command: how long the machine that trains may show no worker before the run is blocked and says so.
	HostTimeout Duration `yaml:"host_timeout" json:"host_timeout" min:"10s" max:"720h"`
	// Keep training files at the provider, checkpoints of jobs, and jobs in a cluster of Kubernetes, when a job has ended; else they are removed. Backend http: the service is not told that it may clean up.
	Keep bool `yaml:"keep" json:"keep"`
	// Time between two looks at a job.
	Poll Duration `yaml:"poll" json:"poll" min:"100ms" max:"1h"`
}

// Callbacks says where training services call back.
type Callbacks struct {
	// Host and port at which this worker process takes callbacks; absent: it takes none.
	Listen string `yaml:"listen" json:"listen"`
	// Address under which training services reach workers that listen; absent: they are told of none.
	URL string `yaml:"url" json:"url"`
}

// Process sets how this worker process runs.
type Process struct {
	// Roles that are served: control (workflows), llm (model calls), cpu (ingest and selection), train (local trainers).
	Queues []string `yaml:"queues" json:"queues" jsonschema:"minItems=1,enum=control,enum=llm,enum=cpu,enum=train,uniqueItems=true"`
	// Partitions in work at once; absent or 0: as many as the calls in flight of all providers want.
	Partitions int `yaml:"partitions" json:"partitions" jsonschema:"minimum=0,maximum=1000"`
	// Host and port at which Prometheus finds metrics; absent: none are served.
	MetricsAddr string `yaml:"metrics_addr" json:"metrics_addr"`
	// Form of the log: text, json, or auto: text on a terminal, json elsewhere.
	LogFormat string `yaml:"log_format" json:"log_format" jsonschema:"enum=auto,enum=text,enum=json"`
	// Least level that is logged.
	LogLevel string `yaml:"log_level" json:"log_level" jsonschema:"enum=debug,enum=info,enum=warn,enum=error"`
	// Time that calls in flight have to finish when the worker is asked to stop.
	StopTimeout Duration `yaml:"stop_timeout" json:"stop_timeout" min:"1s" max:"1h"`
}

// DefaultWorker returns settings with every default filled in. The bucket and the endpoints have none.
func DefaultWorker() Worker {
	return Worker{
		Temporal: Temporal{Queue: "selfalign"},
		Sources:  Sources{PathsBase: "https://data.commoncrawl.org/"},
		Process: Process{
			Queues:    []string{"control", "llm", "cpu", "train"},
			LogFormat: "auto", LogLevel: "info", StopTimeout: Duration(30 * time.Second),
		},
	}
}

func (p *Provider) setDefaults() {
	*p = Provider{API: "chat", Timeout: Duration(2 * time.Minute), Limits: Limits{InFlight: 64}, BatchDiscount: 0.5}
}

func (t *Trainer) setDefaults() {
	*t = Trainer{Poll: Duration(30 * time.Second), HostTimeout: Duration(time.Hour)}
}

// Price returns the price of a model: the one under its own name, else the one under the longest name ending in * that covers
// it. It reports whether there is one; a price of zero is a price.
func (p Provider) Price(model string) (Price, bool) {
	if price, ok := p.Prices[model]; ok {
		return price, true
	}
	best, found, length := Price{}, false, -1
	for name, price := range p.Prices {
		prefix, ok := strings.CutSuffix(name, "*")
		if ok && strings.HasPrefix(model, prefix) && len(prefix) > length {
			best, found, length = price, true, len(prefix)
		}
	}
	return best, found
}
