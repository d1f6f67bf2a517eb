package config

// NearDuplicates drops segments that say almost the same as another one. Of each such pair the segment with the smaller id,
// a digest of its text, is kept. Similarity is the Jaccard similarity of the sets of word n-grams; candidates are
// found by MinHash and locality-sensitive hashing, then compared.
type NearDuplicates struct {
	// Segments at least this alike are near-duplicates. 0: they stay; segments with equal text are dropped all the same.
	Threshold float64 `yaml:"threshold" json:"threshold" jsonschema:"minimum=0,maximum=1"`
	// Words in an n-gram (a shingle), in lower case and without punctuation.
	NGram int `yaml:"ngram" json:"ngram" jsonschema:"minimum=1,maximum=100"`
	// Permutations of a MinHash signature (num_perm). More find pairs at the threshold more surely, or compare fewer in vain, and take longer.
	Permutations int `yaml:"permutations" json:"permutations" jsonschema:"minimum=16,maximum=1024"`
}

// On reports whether near-duplicates are dropped.
func (n NearDuplicates) On() bool { return n.Threshold > 0 }
