package activities

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/goccy/go-yaml"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/report"
)

// ReportInput is what a workflow knows of its run. The datasets are read from S3.
type ReportInput struct {
	Known report.Input `json:"known"` // without the spec's text and links
	Spec  config.Run   `json:"spec"`
	// Score is the spec, where the run is of the generate-and-score recipe.
	Score *config.Score `json:"score,omitempty"`
}

// ReportKey is where the newest report of a run lies.
func ReportKey(run string) string { return "runs/" + run + "/report.html" }

// ReportDataKey is where the newest report lies as JSON, a report.Data.
func ReportDataKey(run string) string { return "runs/" + run + "/report.json" }

// Complete adds to what a workflow knows of its run what the report says of the spec. ui is the address of Temporal's Web UI, or "".
func (in ReportInput) Complete(ui, namespace string) (report.Input, error) {
	spec, err := yaml.Marshal(in.Spec)
	if in.Score != nil {
		spec, err = yaml.Marshal(in.Score)
	}
	if err != nil {
		return report.Input{}, fmt.Errorf("report: %w", err)
	}
	known := in.Known
	known.Spec = string(spec)
	known.Base = in.Spec.Model.Base
	known.Budget = report.Budget{USD: in.Spec.Budget.USD, Calls: in.Spec.Budget.Calls, Tokens: in.Spec.Budget.Tokens}
	if j := in.Spec.Rate.Judge; j != nil {
		known.Teachers = []string{j.Model + " rated"}
	}
	if in.Score != nil && in.Score.Generate != nil {
		known.Teachers = append([]string{in.Score.Generate.Model + " answered"}, known.Teachers...)
	}
	if ui != "" {
		if namespace == "" {
			namespace = "default"
		}
		known.Links = []report.Link{{Label: "Temporal UI", URL: ui + "/namespaces/" + namespace + "/workflows/" + url.PathEscape(known.Run)}}
	}
	return known, nil
}

// WriteReport makes the report of a run as far as it has come, and returns its address. What programs read lies beside it.
func (r *Runs) WriteReport(ctx context.Context, in ReportInput) (string, error) {
	known, err := in.Complete(r.Settings.Temporal.UI, r.Settings.Temporal.Namespace)
	if err != nil {
		return "", err
	}
	defer newHeart(ctx).keep()()
	data, err := report.Build(ctx, r.Store, known, report.Options{})
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(data)
	if err != nil {
		return "", fmt.Errorf("report: %w", err)
	}
	if err := r.Store.Put(ctx, ReportDataKey(known.Run), body); err != nil {
		return "", err
	}
	var page bytes.Buffer
	if err := report.HTML(&page, data); err != nil {
		return "", err
	}
	key := ReportKey(known.Run)
	return r.Store.URI(key), r.Store.Put(ctx, key, page.Bytes())
}
