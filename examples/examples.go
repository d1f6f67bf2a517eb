// Package examples holds a small corpus and seed set written for this project, so that a run needs nothing from elsewhere.
package examples

import "embed"

// FS holds seeds.jsonl, pairs of instruction and output, and the folder corpus, web pages and texts of the quality
// that real ones have: good, middling, promotional, repetitive and broken.
//
//go:embed seeds.jsonl corpus
var FS embed.FS
