package config

// Worker is the settings of a worker: where Temporal and S3 are, and what the names in run specs stand for.
// Keys are never written here: only the names of environment variables that hold them.
type Worker struct {
	Temporal  Temporal            `yaml:"temporal" json:"temporal"`
	Store     Store               `yaml:"store" json:"store"`
	Providers map[string]Provider `yaml:"providers" json:"providers"`
	Trainers  map[string]Trainer  `yaml:"trainers" json:"trainers"`
	Servers   map[string]Server   `yaml:"servers" json:"servers"`
	Process   Process             `yaml:"process" json:"process"`
}

// Temporal is where the Temporal service is. Empty fields come from Temporal's standard environment variables and profile.
type Temporal struct {
	Address   string `yaml:"address" json:"address"`
	Namespace string `yaml:"namespace" json:"namespace"`
	Profile   string `yaml:"profile" json:"profile"`
	Queue     string `yaml:"queue" json:"queue"` // prefix of the task queues; default selfalign
	UI        string `yaml:"ui" json:"ui"`       // address of the Web UI, for links
}

// Store is the bucket that holds every dataset.
type Store struct {
	Bucket       string `yaml:"bucket" json:"bucket"`
	Prefix       string `yaml:"prefix" json:"prefix"`
	Endpoint     string `yaml:"endpoint" json:"endpoint"` // for S3-compatible servers other than AWS
	Region       string `yaml:"region" json:"region"`
	PathStyle    bool   `yaml:"path_style" json:"path_style"`
	AccessKeyEnv string `yaml:"access_key_env" json:"access_key_env"` // empty: the AWS default chain
	SecretKeyEnv string `yaml:"secret_key_env" json:"secret_key_env"`
}

// Provider is an OpenAI-compatible endpoint.
type Provider struct {
	URL     string           `yaml:"url" json:"url"` // with /v1 where the endpoint has it
	KeyEnv  string           `yaml:"key_env" json:"key_env"`
	API     string           `yaml:"api" json:"api"` // chat (default) or completions
	Timeout Duration         `yaml:"timeout" json:"timeout"`
	Limits  Limits           `yaml:"limits" json:"limits"`
	Prices  map[string]Price `yaml:"prices" json:"prices"` // by model name; a name ending in * covers all that begin with it
}

// Limits are what an endpoint allows.
type Limits struct {
	InFlight          int     `yaml:"in_flight" json:"in_flight"` // per worker process; 64
	RequestsPerMinute float64 `yaml:"requests_per_minute" json:"requests_per_minute"`
	TokensPerMinute   float64 `yaml:"tokens_per_minute" json:"tokens_per_minute"`
	Workers           int     `yaml:"workers" json:"workers"` // worker processes that share the rates
}

// Price is in US dollars per million tokens.
type Price struct {
	Input       float64 `yaml:"input" json:"input"`
	CachedInput float64 `yaml:"cached_input" json:"cached_input"`
	Output      float64 `yaml:"output" json:"output"`
	Training    float64 `yaml:"training" json:"training"`
	AsOf        string  `yaml:"as_of" json:"as_of"` // date on which the price was read, YYYY-MM-DD
}

// Trainer runs fine-tuning jobs.
type Trainer struct {
	Backend  string   `yaml:"backend" json:"backend"`   // openai or command
	Provider string   `yaml:"provider" json:"provider"` // openai: whose files and fine-tuning jobs
	Command  []string `yaml:"command" json:"command"`   // command: program and arguments
	Dir      string   `yaml:"dir" json:"dir"`           // command: folder for jobs on the worker's machine
	Poll     Duration `yaml:"poll" json:"poll"`         // time between two looks at a job
}

// Server makes a trained model answer requests.
type Server struct {
	Backend  string `yaml:"backend" json:"backend"`   // openai or static
	Provider string `yaml:"provider" json:"provider"` // where the model answers
	Model    string `yaml:"model" json:"model"`       // static: the model's name, may contain {run} and {iteration}
}

// Process sets how this worker process runs.
type Process struct {
	Queues      []string `yaml:"queues" json:"queues"`         // roles served: control, llm, cpu, train; default all
	Partitions  int      `yaml:"partitions" json:"partitions"` // partitions in work at once; 4
	MetricsAddr string   `yaml:"metrics_addr" json:"metrics_addr"`
	LogFormat   string   `yaml:"log_format" json:"log_format"` // auto, text or json
	LogLevel    string   `yaml:"log_level" json:"log_level"`
	StopTimeout Duration `yaml:"stop_timeout" json:"stop_timeout"` // for calls in flight when asked to stop; 30s
}
