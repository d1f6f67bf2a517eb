package slurm

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The fake Slurm is a folder with links to this binary under the names of Slurm's commands, and a file for each job.
// Words, states and exit codes are those of Slurm 22.05, seen on a real one.
var commands = map[string]func(dir string, args []string) int{
	"sbatch": sbatch, "squeue": squeue, "scontrol": scontrol, "scancel": scancel, "sacct": sacct, "slurmstepd": stepd,
}

// Files that have the fake misbehave while they are there.
const (
	faultDown   = "fault-down"   // the controller does not answer
	faultForget = "fault-forget" // ended jobs are forgotten at once, as after MinJobAge
	faultLost   = "fault-lost"   // sbatch submits, and dies before it says so
	faultHold   = "fault-hold"   // nothing begins
)

type fakeJob struct {
	ID, Name, Comment, Script, State, Exit, Output string
	Restarts, PID                                  int
	Requeue                                        bool // when it ends, begin again
	Env                                            []string
}

func is(dir, fault string) bool {
	_, err := os.Stat(filepath.Join(dir, fault))
	return err == nil
}

func down(dir, name string) bool {
	if is(dir, faultDown) {
		fmt.Fprintf(os.Stderr, "%s: error: Unable to contact slurm controller (connect failure)\n", name)
		return true
	}
	return false
}

// locked runs f alone among all commands of this fake.
func locked(dir string, f func()) {
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		panic(err)
	}
	defer file.Close()
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		panic(err)
	}
	f()
}

func load(dir string) (jobs []*fakeJob) {
	paths, _ := filepath.Glob(filepath.Join(dir, "job-*.json"))
	for _, p := range paths {
		raw, err := os.ReadFile(p)
		j := &fakeJob{}
		if err == nil && json.Unmarshal(raw, j) == nil {
			jobs = append(jobs, j)
		}
	}
	slices.SortFunc(jobs, func(a, b *fakeJob) int { return len(a.ID)*1000 - len(b.ID)*1000 + strings.Compare(a.ID, b.ID) })
	return jobs
}

func (j *fakeJob) save(dir string) {
	raw, _ := json.Marshal(j)
	tmp := filepath.Join(dir, "tmp-"+j.ID)
	if os.WriteFile(tmp, raw, 0o600) != nil || os.Rename(tmp, filepath.Join(dir, "job-"+j.ID+".json")) != nil {
		panic("save")
	}
}

func (j *fakeJob) ended() bool {
	return !slices.Contains([]string{"PENDING", "RUNNING", "COMPLETING"}, j.State)
}

func find(dir, id string) *fakeJob {
	for _, j := range load(dir) {
		if j.ID == id && !(j.ended() && is(dir, faultForget)) {
			return j
		}
	}
	return nil
}

func sbatch(dir string, args []string) int {
	if down(dir, "sbatch") {
		return 1
	}
	j := &fakeJob{State: "PENDING", Exit: "0:0", Env: os.Environ()}
	for _, a := range args {
		name, value, _ := strings.Cut(a, "=")
		switch name {
		case "--job-name":
			j.Name = value
		case "--comment":
			j.Comment = value
		case "--output":
			j.Output = value
		case "--parsable", "--error", "--open-mode", "--export":
		default:
			raw, err := os.ReadFile(a)
			if err != nil {
				fmt.Fprintf(os.Stderr, "sbatch: error: Unable to open file %s\n", a)
				return 1
			}
			j.Script = string(raw) // spooled
		}
	}
	if !strings.HasPrefix(j.Script, "#!") {
		fmt.Fprintln(os.Stderr, "sbatch: error: This does not look like a batch script.  The first")
		return 1
	}
	if strings.Contains(j.Script, "#SBATCH --partition=nope") {
		fmt.Fprintln(os.Stderr, "sbatch: error: invalid partition specified: nope\nsbatch: error: Batch job submission failed: Invalid partition name specified")
		return 1
	}
	locked(dir, func() {
		j.ID = strconv.Itoa(len(load(dir)) + 1)
		j.save(dir)
	})
	syscall.CloseOnExec(3) // a node inherits nothing of sbatch
	step := exec.Command(filepath.Join(dir, "slurmstepd"), j.ID)
	step.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := step.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if is(dir, faultLost) {
		_ = os.Remove(filepath.Join(dir, faultLost))
		fmt.Fprintln(os.Stderr, "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation")
		return 1
	}
	fmt.Println(j.ID)
	return 0
}

// stepd is what a node does with a batch job.
func stepd(dir string, args []string) int {
	for {
		var j *fakeJob
		time.Sleep(2 * time.Millisecond)
		run := false
		locked(dir, func() {
			for _, k := range load(dir) {
				if k.ID == args[0] {
					j = k
				}
			}
			if j != nil && j.State == "PENDING" && !is(dir, faultHold) {
				j.State, run = "RUNNING", true
				j.save(dir)
			}
		})
		if j == nil || j.ended() {
			return 0
		}
		if !run {
			continue
		}
		script := filepath.Join(dir, "script-"+j.ID)
		if os.WriteFile(script, []byte(j.Script), 0o700) != nil {
			return 1
		}
		cmd := exec.Command("bash", script)
		cmd.Env = append(j.Env, "SLURM_JOB_ID="+j.ID)
		if j.Restarts > 0 {
			cmd.Env = append(cmd.Env, "SLURM_RESTART_COUNT="+strconv.Itoa(j.Restarts))
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		err := cmd.Start()
		if err == nil {
			locked(dir, func() {
				now := find(dir, j.ID)
				now.PID = cmd.Process.Pid
				now.save(dir)
			})
			err = cmd.Wait()
		}
		again := false
		locked(dir, func() {
			now := find(dir, j.ID)
			if now == nil || now.ended() { // cancelled
				return
			}
			if now.Requeue {
				now.State, now.Requeue, again = "PENDING", false, true
				now.Restarts++
				now.save(dir)
				return
			}
			now.State = "COMPLETED"
			if err != nil {
				now.State = "FAILED"
				if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
					now.Exit = fmt.Sprintf("0:%d", ws.Signal())
				} else {
					now.Exit = fmt.Sprintf("%d:0", cmd.ProcessState.ExitCode())
				}
			}
			now.save(dir)
		})
		if !again {
			return 0
		}
	}
}

func squeue(dir string, args []string) int {
	if down(dir, "squeue") {
		return 1
	}
	name := ""
	for _, a := range args {
		if v, ok := strings.CutPrefix(a, "--name="); ok {
			name = v
		}
	}
	for _, j := range load(dir) {
		if j.Name == name && !(j.ended() && is(dir, faultForget)) {
			fmt.Println(j.ID)
		}
	}
	return 0
}

func scontrol(dir string, args []string) int {
	if is(dir, faultDown) {
		fmt.Fprintln(os.Stderr, "slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
		return 1
	}
	j := find(dir, args[len(args)-1])
	if j == nil {
		fmt.Fprintln(os.Stderr, "slurm_load_jobs error: Invalid job id specified")
		return 1
	}
	fmt.Printf("JobId=%s JobName=%s UserId=root(0) JobState=%s Reason=None Dependency=(null) Requeue=1 Restarts=%d BatchFlag=1 ExitCode=%s RunTime=00:00:00 Comment=%s \n",
		j.ID, j.Name, j.State, j.Restarts, j.Exit, j.Comment)
	return 0
}

func scancel(dir string, args []string) int {
	if down(dir, "scancel") {
		return 1
	}
	soft, code := slices.Contains(args, "--signal=TERM"), 0
	locked(dir, func() {
		j := find(dir, args[len(args)-1])
		switch {
		case j == nil && !soft:
		case j == nil || j.ended():
			if soft {
				fmt.Fprintf(os.Stderr, "scancel: error: Kill job error on job id %s: Invalid job id specified\n", args[len(args)-1])
				code = 1
			}
		case soft:
			if j.PID > 1 {
				_ = syscall.Kill(-j.PID, syscall.SIGTERM)
			}
		default:
			j.State = "CANCELLED"
			j.save(dir)
			if j.PID > 1 {
				_ = syscall.Kill(-j.PID, syscall.SIGKILL)
			}
		}
	})
	return code
}

func sacct(string, []string) int {
	fmt.Fprintln(os.Stderr, "Slurm accounting storage is disabled")
	return 1
}
