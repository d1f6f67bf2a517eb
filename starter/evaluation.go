package main

import (
	"fmt"
	"strings"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/contamination"
	"github.com/selfalign/selfalign/internal/corpus"
	"github.com/selfalign/selfalign/internal/intake"
	"github.com/selfalign/selfalign/starter/runs"
)

// localIndex reads the evaluation sets of a spec, and the seeds where it says so, that lie on this machine; for the others it
// says that they are not looked at.
func localIndex(a *app, spec config.Run, dir string) (func(string) []corpus.Hit, error) {
	if !spec.Decontaminate.On() {
		return nil, nil
	}
	index := contamination.New(spec.Decontaminate.NGram)
	each := func(what, path string, read func(intake.File) error) error {
		if strings.Contains(path, "://") {
			fmt.Fprintf(a.err, "%s is not on this machine: what it holds is not looked for\n", what)
			return nil
		}
		files, err := runs.LocalFiles(runs.Local(dir, path))
		if err != nil {
			return usage(fmt.Sprintf("%s: %v", what, err))
		}
		for _, f := range files {
			if err := read(intake.Local(f.Name, f.Path)); err != nil {
				return usage(fmt.Sprintf("%s: %v", what, err))
			}
		}
		return nil
	}
	for _, set := range spec.Decontaminate.Sets {
		err := each("evaluation set "+set.Name, set.Path, func(f intake.File) error {
			for record, err := range intake.Records(a.ctx, f, set.Format, set.Fields) {
				if err != nil {
					return err
				}
				if err := index.Add(set.Name, record.Number, record.Texts); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if spec.Decontaminate.Seeds {
		for _, s := range spec.Seeds {
			err := each("source of seeds "+s.Path, s.Path, func(f intake.File) error {
				n := int64(0)
				options := corpus.SeedOptions{Format: s.Format, Instruction: s.Instruction, Output: s.Output, Language: s.Language}
				for item, err := range intake.Seeds(a.ctx, f, options) {
					if err != nil {
						return err
					}
					if n++; item.Seed == nil {
						continue
					}
					if err := index.Add(config.SeedSet, n, []string{item.Seed.Instruction, item.Seed.Output}); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return nil, err
			}
		}
	}
	index.Seal()
	for _, s := range index.Sets() {
		fmt.Fprintf(a.err, "evaluation set %s: %d n-grams of %d texts in %d rows; %d texts are too short to be looked for\n", s.Name, s.Grams, s.Texts, s.Rows, s.Short)
	}
	return index.Find, nil
}
