package slurm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/command"
)

// Look implements command.Host: scontrol knows a job until MinJobAge after its end, sacct for good where there is
// accounting, and the code that the batch job noted stays in the job's folder.
func (c *cluster) Look(ctx context.Context, a command.Attempt) (command.Life, error) {
	id, err := c.find(ctx, a)
	if err != nil || id == noID {
		return command.Life{Words: "it was never submitted"}, err
	}
	out, err := c.run(ctx, a, "scontrol", "--oneliner", "show", "job", id)
	if err == nil {
		fields := fieldsOf(out)
		if fields["JobId"] != id {
			return command.Life{}, passing(fmt.Sprintf("scontrol answered %.200q", out), nil)
		}
		return c.life(a, id, fields["JobState"], fields["ExitCode"], fields["Reason"]), nil
	}
	if finetune.ClassOf(err) != finetune.ClassPermanent || !strings.Contains(err.Error(), "Invalid job id") {
		return command.Life{}, err
	}
	// Forgotten. Where there is no accounting sacct fails, and the job's folder alone tells.
	out, err = c.run(ctx, a, "sacct", "--noheader", "--parsable2", "--allocations", "--jobs="+id, "--format=State,ExitCode")
	if finetune.ClassOf(err) == finetune.ClassPassing || ctx.Err() != nil {
		return command.Life{}, err
	}
	line, _, _ := strings.Cut(strings.TrimSpace(out), "\n")
	state, code, _ := strings.Cut(line, "|")
	if err != nil || state == "" {
		return command.Life{Words: "Slurm no longer knows batch job " + id}, nil //nolint:nilerr // no accounting is no failure
	}
	return c.life(a, id, state, code, ""), nil
}

// life reads Slurm's states; what is not known is alive, since taking it for dead could train twice.
func (c *cluster) life(a command.Attempt, id, state, code, reason string) command.Life {
	state, _, _ = strings.Cut(state, " ") // CANCELLED by 1000
	about := "batch job " + id + ": " + state
	if reason != "" && reason != "None" {
		about += " (" + reason + ")"
	}
	switch state {
	case "PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT":
		return command.Life{Alive: true, Queued: true, Words: about}
	case "COMPLETED", "FAILED":
		life := command.Life{Exit: exitOf(code)}
		if c.refused(a, state) {
			life.Final, life.Words = true, about+" before it began (Try: a dir that the nodes see under the same path); see "+fileLog
		}
		return life
	case "CANCELLED":
		return command.Life{Cancelled: true, Words: about + ": somebody cancelled it in Slurm"}
	case "OUT_OF_MEMORY":
		return command.Life{Final: true, Words: about + ": it wants more memory than the template asks for"}
	case "TIMEOUT", "PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "DEADLINE", "LAUNCH_FAILED", "RECONFIG_FAIL", "REVOKED":
		return command.Life{Words: about}
	}
	return command.Life{Alive: true}
}

// refused reports whether a batch job failed before our script began, such as for a folder that its node does not see.
func (c *cluster) refused(a command.Attempt, state string) bool {
	if state != "FAILED" {
		return false
	}
	_, err := os.Stat(filepath.Join(a.Dir, fileBegun+strconv.Itoa(a.Number)))
	return os.IsNotExist(err)
}

// exitOf reads Slurm's code:signal as a shell's exit code, or nil.
func exitOf(code string) *int {
	c, s, ok := strings.Cut(code, ":")
	n, err := strconv.Atoi(c)
	if !ok || err != nil {
		return nil
	}
	if sig, err := strconv.Atoi(s); err == nil && sig > 0 && n == 0 {
		n = 128 + sig
	}
	return &n
}

// fieldsOf reads scontrol's line of NAME=value; values with spaces keep their first word, which is enough here.
func fieldsOf(line string) map[string]string {
	out := map[string]string{}
	for _, word := range strings.Fields(line) {
		name, value, ok := strings.Cut(word, "=")
		if _, twice := out[name]; ok && !twice {
			out[name] = value
		}
	}
	return out
}
