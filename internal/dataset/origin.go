package dataset

// Origin is a source as a run found it when it began: what a name stood for then. Reading goes by this and not by the name.
type Origin struct {
	Path      string `json:"path"`               // as the spec has it, without a query
	Revision  string `json:"revision,omitempty"` // Hub: as asked for
	Commit    string `json:"commit,omitempty"`   // Hub: of the files that are read
	Config    string `json:"config,omitempty"`   // Hub
	Split     string `json:"split,omitempty"`    // Hub
	Converted bool   `json:"converted,omitempty"`
	Partial   bool   `json:"partial,omitempty"` // the Hub's Parquet copy holds only the first gigabytes
	License   string `json:"license,omitempty"`
	Files     int    `json:"files"`
	Bytes     int64  `json:"bytes"`  // as listed
	Digest    string `json:"digest"` // SHA-256 of the files' names, sizes and tags
}
