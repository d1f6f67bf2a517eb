#!/usr/bin/env python3
"""Trains one model of a selfalign run with axolotl: a trainer for `backend: command`. See README.md."""
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml


def say(**line):
    print(json.dumps(line), flush=True)


def fill(config, job):
    """Puts the job into the configuration: base model, data, recipe, seed, folders."""
    recipe, gpus = job["hyperparameters"], max(1, int(os.environ.get("AXOLOTL_GPUS", "1")))
    each = config.get("micro_batch_size", 1) * gpus
    if recipe["batch_size"] % each:
        raise ValueError(f"a batch of {recipe['batch_size']} does not divide into {each} at once (try: micro_batch_size: 1)")
    config["base_model"], config["seed"] = job["base_model"], job["seed"] % 2**31
    config["datasets"][0]["path"] = job["training_file"]
    if job.get("validation_file"):
        config["test_datasets"] = [{**config["datasets"][0], "path": job["validation_file"], "split": "train"}]
    config["gradient_accumulation_steps"] = recipe["batch_size"] // each
    steps = recipe["steps"] or max(1, -(-round(recipe["epochs"] * job["examples"]) // recipe["batch_size"]))
    config["max_steps"], config["weight_decay"] = steps, recipe["weight_decay"]
    start, end = recipe["learning_rate"], recipe["learning_rate_end"]
    config["learning_rate"] = start
    if end < start and steps > 1:  # the library's line ends a step after the last one
        config["lr_scheduler"], config["lr_scheduler_kwargs"] = "polynomial", {"power": 1.0, "lr_end": start - (start - end) * steps / (steps - 1)}
    else:
        config["lr_scheduler"] = "constant"
        config.pop("lr_scheduler_kwargs", None)
    if config.get("adapter"):
        config["lora_dropout"] = recipe["dropout"]
    elif recipe["dropout"]:
        say(not_expressed=["dropout: axolotl has none when all weights are trained"])
    config["output_dir"] = job["checkpoints"] + "/out"
    config["dataset_prepared_path"] = job["checkpoints"] + "/prepared"
    config["auto_resume_from_checkpoints"] = os.environ.get("SELFALIGN_RESUME") == "1"
    return config, steps


def main():
    job = json.loads(Path(os.environ["SELFALIGN_JOB"]).read_text(encoding="utf-8"))
    template = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("config.yaml"))
    config, steps = fill(yaml.safe_load(template.read_text(encoding="utf-8")), job)
    path = Path(job["checkpoints"], "config.yaml")
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    os.environ.setdefault("AXOLOTL_DO_NOT_TRACK", "1")
    step, last = 0, ""
    with subprocess.Popen(["axolotl", "train", str(path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as run:
        for line in run.stdout:
            sys.stderr.write(line)
            if found := re.search(r"'loss': '?([0-9.eE+-]+)", line):  # a line a step
                step += 1
                say(step=step, steps=steps, loss=float(found.group(1)))
            if re.match(r"\w*(Error|Exception)\b", line):
                last = line.strip()
    if run.returncode:
        say(error=last or f"axolotl ended with {run.returncode}")
        sys.exit(75 if run.returncode < 0 else 1)  # a signal: again, from the newest checkpoint
    results = Path(job["artifacts"])
    for half in results.iterdir():  # of an attempt that died here
        shutil.rmtree(half) if half.is_dir() else half.unlink()
    for file in Path(config["output_dir"]).iterdir():
        if file.is_file() and file.name != "training_args.bin":
            shutil.copy2(file, results / file.name)


if __name__ == "__main__":
    main()
