"""Runs the recipe in distilabel and in selfalign against one referee and prints a table.

    python compare.py --python VENV/bin/python --bin FOLDER --settings worker.yaml --rows 1000

FOLDER holds the starter and the worker (go build -o FOLDER ./starter ./worker). The settings are those of a running
quickstart with a queue of their own; its model server is the referee, told to answer from a digest after a latency and to
count. Each row is one run: undisturbed, with the error profile, or killed with -9 at half way and started again.
"""

import argparse
import collections
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
PROFILE = {"rate_limited": 0.01, "retry_after_s": 1, "server_error": 0.005, "bad_request": 0.002, "unparsable": 0.005}


def call(base, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(base + path, data), timeout=30) as r:
        return json.load(r)


def tree(pid):
    """A process and all that descend from it."""
    children = collections.defaultdict(list)
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{p}/stat") as f:
                children[int(f.read().rsplit(")", 1)[1].split()[1])].append(int(p))
        except OSError:
            pass
    out, todo = [], [pid]
    while todo:
        p = todo.pop()
        out.append(p)
        todo += children[p]
    return out


class Meter(threading.Thread):
    """CPU seconds and the peak of the memory of a process tree, by looking ten times a second."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.cpu, self.peak, self.on = pid, {}, 0, True
        self.start()

    def run(self):
        tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        while self.on:
            resident = 0
            for p in tree(self.pid):
                try:
                    with open(f"/proc/{p}/stat") as f:
                        fields = f.read().rsplit(")", 1)[1].split()
                    self.cpu[p] = (int(fields[11]) + int(fields[12])) / tick
                    resident += int(fields[21]) * page
                except OSError:
                    pass
            self.peak = max(self.peak, resident)
            time.sleep(0.1)

    def stop(self):
        self.on = False
        self.join()
        return sum(self.cpu.values()), self.peak / 1e6


def started(command, env, log):
    return subprocess.Popen(command, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)


def killed(process):
    for p in tree(process.pid):
        try:
            os.kill(p, signal.SIGKILL)
        except OSError:
            pass
    process.wait()


def half_way(base, calls, before):
    while call(base, "/pocketlm/journal")["ByRoute"]["chat.completions"]["Answered"] - before < calls // 2:
        time.sleep(0.05)


def valid(path):
    n = 0
    with open(path) as f:
        for line in f:
            row = json.loads(line)
            n += bool(row.get("generation")) and row.get("score") is not None and 1 <= float(row["score"]) <= 5
    return n


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--python", required=True)
    args.add_argument("--bin", required=True)
    args.add_argument("--settings", required=True)
    args.add_argument("--rows", type=int, default=1000)
    args.add_argument("--batch", type=int, default=50)
    args.add_argument("--latency", type=float, default=200)
    args.add_argument("--limit", type=float, default=120, help="seconds after which a run is given up")
    args.add_argument("--only", default="distilabel,selfalign")
    args.add_argument("--faults", default="none,error profile,kill -9 at half way")
    a = args.parse_args()
    with open(a.settings) as f:
        url = re.search(r"http://[0-9.:]+/v1", f.read()).group(0)
    base = url[: -len("/v1")]
    dir = tempfile.mkdtemp(prefix="selfalign-compare-")
    salt = os.path.basename(dir)
    print("| program | faults | wall | calls/s | CPU | memory | valid rows | answered | refused | repeated |\n|--|--|--:|--:|--:|--:|--:|--:|--:|--:|")
    try:
        for nr, kind in enumerate(a.faults.split(",")):
            for program in a.only.split(","):
                name = f"{salt}-{program[:1]}-{nr}-{kind.split()[0]}".replace("_", "-").lower()
                prompts = os.path.join(dir, name + ".jsonl")
                with open(prompts, "w") as f:
                    for i in range(a.rows):  # prompts of the run's own: nothing is answered from before
                        f.write(json.dumps({"instruction": f"{name}: tell me what number {i} is good for, in three sentences."}) + "\n")
                faults = {"canned": True, "latency_ms": a.latency, "latency_sigma": 0.5}
                if kind == "error profile":
                    faults |= PROFILE
                call(base, "/pocketlm/faults", faults)
                before = call(base, "/pocketlm/journal")["ByRoute"]["chat.completions"]
                out, log = os.path.join(dir, name + ".out"), open(os.path.join(dir, name + ".log"), "w")
                env = dict(os.environ)
                began, cpu, peak = time.time(), 0.0, 0.0
                if program == "distilabel":
                    command = [a.python, os.path.join(HERE, "recipe.py"), "--url", url, "--prompts", prompts, "--out", out,
                               "--cache", os.path.join(dir, name), "--batch", str(a.batch)]
                    again = command
                else:
                    spec = os.path.join(dir, name + ".yaml")
                    with open(spec, "w") as f:
                        json.dump({"name": name, "load": {"path": prompts},
                                   "generate": {"provider": "pocketlm", "model": "pocketlm-base", "input_batch_size": a.batch},
                                   "score": {"provider": "pocketlm", "model": "pocketlm-base", "input_batch_size": a.batch},
                                   "push": {"jsonl": True}}, f)
                    command = again = [os.path.join(a.bin, "worker"), "-config", a.settings]
                process = started(command, env, log)
                meter = Meter(process.pid)
                if program == "selfalign":
                    subprocess.run([os.path.join(a.bin, "starter"), "score", "-f", spec, "-w", a.settings], env=env, stdout=log, stderr=log, check=True)
                if kind.startswith("kill"):
                    half_way(base, 2 * a.rows, before["Answered"])
                    killed(process)
                    cpu, peak = meter.stop()
                    process = started(again, env, log)
                    meter = Meter(process.pid)
                if program == "distilabel":
                    try:
                        code = process.wait(a.limit)
                    except subprocess.TimeoutExpired:
                        killed(process)
                        code = "none: given up"
                else:
                    code = subprocess.run([os.path.join(a.bin, "starter"), "watch", name, "-w", a.settings], env=env, stdout=log, stderr=log).returncode
                wall = time.time() - began
                c, m = meter.stop()
                cpu, peak = cpu + c, max(peak, m)
                if program == "selfalign":
                    process.terminate()
                    process.wait()
                    folder = os.path.join(dir, name)
                    subprocess.run([os.path.join(a.bin, "starter"), "push", name, "-w", a.settings, "--folder", folder, "--jsonl"], env=env, stdout=log, stderr=log)
                    out = os.path.join(folder, "jsonl", "default-train.jsonl")
                after = call(base, "/pocketlm/journal")["ByRoute"]["chat.completions"]
                answered = after["Answered"] - before["Answered"]
                rows = valid(out) if os.path.exists(out) else 0
                note = "" if code == 0 else f" (exit {code})"
                print(f"| {program} | {kind} | {wall:.1f} s{note} | {answered / wall:.0f} | {cpu:.1f} s | {peak:.0f} MB | {rows} of {a.rows} | {answered} | {after['Refused'] - before['Refused']} | {after['Repeated'] - before['Repeated']} |", flush=True)
    finally:
        call(base, "/pocketlm/faults", {})
        if "KEEP" not in os.environ:
            shutil.rmtree(dir)
        else:
            print(dir, file=sys.stderr)


if __name__ == "__main__":
    main()
