package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"time"

	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack"
	"github.com/selfalign/selfalign/internal/devstack/gobuild"
	"github.com/selfalign/selfalign/internal/stage"
	"github.com/selfalign/selfalign/workflows"
)

// idle are the activities of a stage that do nothing and answer as if all went well.
type idle struct{}

func (idle) FindDataset(context.Context, string) (activities.FoundDataset, error) {
	return activities.FoundDataset{}, nil
}

func (idle) SurveyRange(context.Context, activities.SurveyInput) (activities.RangeSurvey, error) {
	return activities.RangeSurvey{}, nil
}

// AskPartition answers with a receipt as long as real ones.
func (idle) AskPartition(_ context.Context, w stage.Work) (activities.PartitionResult, error) {
	r := dataset.Receipt{
		Partition: w.Partition, Input: 4096, Rows: 4000, Rejected: 96, Bytes: 5 << 20,
		Digest:    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		Reasons:   map[string]int64{"no_score": 50, "content_filter": 40, "cut": 6},
		Histogram: map[string]int64{"1": 100, "2": 200, "3": 1000, "4": 2000, "5": 700},
		Usage:     dataset.Usage{Calls: 4100, PromptTokens: 4_000_000, CompletionTokens: 400_000, MicroUSD: 1_000_000},
	}
	return activities.PartitionResult{Receipt: r, Done: true, Spending: activities.Spending{Spent: r.Usage}}, nil
}

func (idle) CommitRange(_ context.Context, in activities.CommitRangeInput) (dataset.RangeSummary, error) {
	r, _ := idle{}.AskPartition(context.Background(), stage.Work{})
	s := activities.SummaryOf(r.Receipt)
	s.From, s.To = in.From, in.To
	return s, nil
}

func (idle) CommitDataset(_ context.Context, in activities.CommitDatasetInput) (dataset.Ref, error) {
	return dataset.Ref{Kind: dataset.KindRatings, Dir: "done", Bits: in.Manifest.Bits, Rows: 1}, nil
}

const historyRun = "history"

// parent is a run of one stage, that takes the stage's signals as a run does.
func parent(ctx workflow.Context, in workflows.StageInput) (workflows.StageResult, error) {
	workflow.Go(ctx, func(ctx workflow.Context) {
		signals := workflow.GetSignalChannel(ctx, workflows.SignalProgress)
		for {
			var p workflows.RangeProgress
			signals.Receive(ctx, &p)
		}
	})
	ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: historyRun + "/stage"})
	var out workflows.StageResult
	err := workflow.ExecuteChildWorkflow(ctx, workflows.TypeStage, in).Get(ctx, &out)
	return out, err
}

func historyCommand(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("history", flag.ContinueOnError)
	flags.SetOutput(stderr)
	partitions := flags.Int("partitions", 32768, "partitions, rounded up to a power of two; 100 million rows have 32768")
	window := flags.Int("window", 8, "partitions in work at once")
	folder := flags.String("dir", "", "`folder` for data, which is kept; default: a temporary one, removed at the end")
	asJSON := flags.Bool("json", false, "print every figure as JSON")
	if err := parse(flags, args); err != nil {
		return err
	}
	dir, remove, err := dataDir(*folder)
	if err != nil {
		return err
	}
	defer remove()
	stack, err := devstack.Start(ctx, devstack.Options{Dir: dir, NoUI: true, Embedded: true, Building: func(string, gobuild.Progress) {}})
	if err != nil {
		return err
	}
	defer stack.Stop()
	c, err := client.DialContext(ctx, client.Options{
		HostPort: stack.TemporalAddress, Namespace: stack.Namespace,
		Logger: sdklog.NewStructuredLogger(slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelError}))),
	})
	if err != nil {
		return err
	}
	defer c.Close()
	for _, role := range []string{workflows.RoleControl, workflows.RoleLLM} {
		w := worker.New(c, workflows.QueueName(historyRun, role), worker.Options{DisableWorkflowWorker: role != workflows.RoleControl})
		if role == workflows.RoleControl {
			workflows.Register(w)
			w.RegisterWorkflowWithOptions(parent, workflow.RegisterOptions{Name: "Parent"})
		}
		w.RegisterActivity(&idle{})
		if err := w.Start(); err != nil {
			return err
		}
		defer w.Stop()
	}
	bits := dataset.BitsFor(int64(*partitions), 1, 0)
	rows := int64(4096) << bits
	input := dataset.Ref{Kind: dataset.KindCandidates, Dir: "runs/history/00/candidates", Bits: bits, Rows: rows}
	began := time.Now()
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: historyRun, TaskQueue: workflows.QueueName(historyRun, workflows.RoleControl)}, "Parent",
		workflows.StageInput{
			Run: historyRun, Stage: "1/rate", Queue: historyRun, Bits: bits, Window: *window,
			Work: activities.Work{Ask: &stage.Work{
				Task: stage.TaskRate, Run: historyRun, Input: input, Output: "runs/history/01/ratings",
				Model: dataset.ModelRef{Provider: "p", Name: "m", Revision: "r"}, Sampling: stage.Sampling{MaxTokens: 1024},
			}},
			Manifest: dataset.Manifest{Kind: dataset.KindRatings, Run: historyRun, Parents: []dataset.Ref{input}, Input: rows},
		})
	if err != nil {
		return err
	}
	var out workflows.StageResult
	if err := run.Get(ctx, &out); err != nil {
		return err
	}
	if out.Stop != "" {
		return fmt.Errorf("the stage stopped: %s %+v", out.Stop, out.Trouble)
	}
	took := time.Since(began)
	h, err := walkHistories(ctx, c, historyRun)
	if err != nil {
		return err
	}
	if *asJSON {
		err = printJSON(stdout, h)
	} else {
		fmt.Fprintf(stdout, "stage of %d partitions that do nothing, %d at once, standing for %d rows; %.0f s, %.0f partitions/s\n",
			1<<bits, *window, rows, took.Seconds(), float64(int(1)<<bits)/took.Seconds())
		h.print(stdout)
	}
	if err == nil && !h.Limit {
		err = fmt.Errorf("a history has 4,096 events or more: %v", h.Longest)
	}
	return err
}
