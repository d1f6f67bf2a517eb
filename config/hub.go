package config

// Hub is the Hugging Face Hub: hf:// sources are read from it, datasets are pushed to it. The token itself is never written
// here.
type Hub struct {
	// Address of a Hub other than https://huggingface.co.
	Endpoint string `yaml:"endpoint" json:"endpoint"`
	// Environment variable with the access token; absent: public datasets can be read, nothing can be pushed.
	TokenEnv string `yaml:"token_env" json:"token_env" jsonschema:"pattern=^[A-Za-z_][A-Za-z0-9_]*$"`
}

func (ps *problems) hub(h Hub) { ps.address("hub.endpoint", h.Endpoint) }
