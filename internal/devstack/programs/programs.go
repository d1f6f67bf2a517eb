// Package programs lists the programs that devstack builds and runs, and what each is made of.
package programs

import "github.com/selfalign/selfalign/internal/devstack/gobuild"

// Temporald serves Temporal and its Web UI.
var Temporald = gobuild.Program{
	Name:    "temporald",
	Package: "internal/devstack/temporald",
	Sources: []string{
		"internal/devstack/child",
		"internal/devstack/folder",
		"internal/devstack/loopback",
		"internal/devstack/temporald",
		"internal/devstack/temporald/embedded",
		"internal/flock",
	},
}

// Localstack serves S3 and pocketlm.
var Localstack = gobuild.Program{
	Name:    "localstack",
	Package: "internal/devstack/localstack",
	Sources: []string{
		"internal/devstack/child",
		"internal/devstack/folder",
		"internal/devstack/localstack",
		"internal/devstack/loopback",
		"internal/devstack/s3d",
		"internal/flock",
		"internal/pocketlm",
		"internal/pocketlm/lm",
	},
}
