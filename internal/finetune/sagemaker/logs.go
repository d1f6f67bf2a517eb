package sagemaker

import (
	"context"
	"strings"
)

// logGroup is where SageMaker writes what containers say, in a stream <job>/algo-<number>-<milliseconds> for each.
const logGroup = "/aws/sagemaker/TrainingJobs"

const (
	maxEvents = 1000 // of the end of a log
	maxTail   = 2048 // bytes of it that a failure tells
)

// logOf returns the end of the log of the job's first container, one event a line; "" where there is none or it may not be
// read: a job without a log is a job.
func (b *Backend) logOf(ctx context.Context, id string) string {
	var streams struct {
		LogStreams []struct {
			LogStreamName string `json:"logStreamName"`
		} `json:"logStreams"`
	}
	err := b.logs.Do(ctx, request("Logs_20140328.DescribeLogStreams",
		map[string]any{"logGroupName": logGroup, "logStreamNamePrefix": id + "/algo-1-", "limit": 50}, &streams))
	if err != nil {
		return ""
	}
	newest := "" // a job that went on after an interruption has several; their numbers have equally many digits
	for _, s := range streams.LogStreams {
		newest = max(newest, s.LogStreamName)
	}
	if newest == "" {
		return ""
	}
	var out struct {
		Events []struct {
			Message string `json:"message"`
		} `json:"events"`
	}
	err = b.logs.Do(ctx, request("Logs_20140328.GetLogEvents",
		map[string]any{"logGroupName": logGroup, "logStreamName": newest, "limit": maxEvents, "startFromHead": false}, &out))
	if err != nil {
		return ""
	}
	var log strings.Builder
	for _, e := range out.Events {
		log.WriteString(strings.TrimRight(e.Message, "\r\n"))
		log.WriteByte('\n')
	}
	return log.String()
}
