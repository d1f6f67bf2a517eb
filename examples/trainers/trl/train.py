#!/usr/bin/env python3
"""Trains one model of a selfalign run with TRL: a trainer for `backend: command`.

Always from the base model; loss on the answer's tokens only; the recipe is that of job.json. See README.md.
"""
import argparse
import json
import math
import os
import shutil
import signal
import sys
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

AGAIN = 75  # exit code: start me again, I shall go on from my checkpoint
WHOLE = "selfalign-whole"  # lies in a checkpoint that is complete on disk
DROPOUTS = ["dropout", "hidden_dropout", "resid_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "attention_dropout"]

# For base models without a chat template. It needs no token that the tokenizer lacks; each answer ends in the end-of-text token.
CHAT_TEMPLATE = (
    "{{ bos_token if bos_token }}"
    "{% for m in messages %}{{ '\n\n' if not loop.first }}### {{ m['role'] | capitalize }}:\n{{ m['content'] | trim }}"
    "{{ eos_token if m['role'] == 'assistant' }}{% endfor %}"
    "{{ '\n\n### Assistant:\n' if add_generation_prompt }}"
)


def say(**line):  # the newest value of each field counts
    print(json.dumps(line), flush=True)


class Progress(TrainerCallback):
    """Reports every step, decides when a checkpoint is written, and stops at the next step after TERM."""

    def __init__(self, every):
        self.every, self.stopping = every, False
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stopping", True))

    def on_step_end(self, args, state, control, **_):
        last = state.global_step >= state.max_steps  # the result follows, a checkpoint would be a waste
        control.should_save = not last and (self.stopping or state.global_step % self.every == 0)
        control.should_training_stop = last or self.stopping

    def on_log(self, args, state, control, logs=None, **_):
        if logs and math.isfinite(logs.get("loss", math.nan)):
            say(step=state.global_step, steps=state.max_steps, loss=logs["loss"], tokens=int(state.num_input_tokens_seen))

    def on_save(self, args, state, control, **_):
        os.sync()  # a file of a checkpoint that power failed on may be there and empty
        Path(args.output_dir, f"checkpoint-{state.global_step}", WHOLE).touch()


def newest_checkpoint(folder):
    """Returns the newest complete checkpoint, or None, and removes what an attempt that died left half done."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
    for half in (p for p in found if not (p / WHOLE).exists()):
        shutil.rmtree(half)
    return next((str(p) for p in reversed(found) if p.exists()), None)


def load_examples(path):
    """Splits each conversation into what is given and its last message, the answer: the only part that the loss sees."""
    with open(path, encoding="utf-8") as lines:
        talks = [json.loads(line)["messages"] for line in lines]
    return Dataset.from_list([{"prompt": talk[:-1], "completion": talk[-1:]} for talk in talks])


def end_of_answer(tokenizer):
    """Returns the token that ends an answer under the chat template: base models often name another end of text."""
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    ids = tokenizer(tokenizer.apply_chat_template(talk, tokenize=False), add_special_tokens=False)["input_ids"]
    special = [i for i in ids if i in set(tokenizer.all_special_ids)]
    if not special:
        raise ValueError("the chat template ends an answer with no special token, so the model would never stop")
    return tokenizer.convert_ids_to_tokens(special[-1])


def train(job, options):
    recipe, seed, checkpoints = job["hyperparameters"], job["seed"] % 2**31, Path(job["checkpoints"])
    batch, dropout = recipe["batch_size"], recipe["dropout"]
    data = load_examples(job["training_file"])
    set_seed(seed)
    steps = recipe["steps"] or max(1, math.ceil(recipe["epochs"] * len(data) / batch))
    micro = max(n for n in range(1, min(batch, options.micro_batch) + 1) if batch % n == 0)

    tokenizer = AutoTokenizer.from_pretrained(job["base_model"])
    tokenizer.chat_template = tokenizer.chat_template or CHAT_TEMPLATE
    config = AutoConfig.from_pretrained(job["base_model"])
    kept_as, dropouts = config.dtype or torch.float32, [name for name in DROPOUTS if hasattr(config, name)]
    config.update({name: dropout for name in dropouts})
    if dropout and not options.lora and dropouts in ([], ["attention_dropout"]):
        say(not_expressed=["dropout: this model has it " + ("on attention only" if dropouts else "nowhere")])
    # Weights that are trained have 32 bits: in bfloat16, steps of 1e-5 would be rounded away. Under LoRA the base's are not.
    gpu = torch.cuda.is_available()
    width = torch.bfloat16 if gpu and options.lora else torch.float32
    model = AutoModelForCausalLM.from_pretrained(job["base_model"], config=config, dtype=width)

    start, end = recipe["learning_rate"], recipe["learning_rate_end"]
    falling = {"lr_scheduler_type": "constant"}
    if end < start and steps > 1:  # the library's line ends a step after the last one
        lr_end = start - (start - end) * steps / (steps - 1)
        falling = {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"lr_end": lr_end, "power": 1.0}}
    args = SFTConfig(
        output_dir=str(checkpoints), max_steps=steps, per_device_train_batch_size=micro, gradient_accumulation_steps=batch // micro,
        learning_rate=start, weight_decay=recipe["weight_decay"], warmup_steps=0, seed=seed, data_seed=seed,
        completion_only_loss=True, eos_token=end_of_answer(tokenizer), max_length=options.max_length, bf16=gpu,
        gradient_checkpointing=gpu, save_total_limit=2, logging_steps=1, include_num_input_tokens_seen="non_padding",
        disable_tqdm=True, report_to="none", **falling)
    if args.train_batch_size * args.gradient_accumulation_steps * args.world_size != batch:
        raise ValueError("this trainer is for one device (try: CUDA_VISIBLE_DEVICES=0)")
    lora = LoraConfig(r=options.lora, lora_alpha=2 * options.lora, lora_dropout=dropout, target_modules="all-linear",
                      task_type="CAUSAL_LM") if options.lora else None
    trainer = SFTTrainer(model, args, train_dataset=data, processing_class=tokenizer, peft_config=lora,
                         callbacks=[Progress(every=max(1, steps // 10))])
    trainer.remove_callback(PrinterCallback)
    left = len(data) - len(trainer.train_dataset)  # the library leaves out those of whose answers nothing is within --max-length
    if left == len(data):
        raise ValueError(f"no answer begins within {options.max_length} tokens (try: a higher --max-length)")
    say(steps=steps, message=f"{len(data) - left} examples, {steps} steps of {batch}" + (f"; {left} longer ones left out" if left else ""))
    trainer.train(resume_from_checkpoint=newest_checkpoint(checkpoints) if os.environ.get("SELFALIGN_RESUME") == "1" else None)
    if trainer.state.global_step < steps:
        sys.exit(AGAIN)

    results = Path(job["artifacts"])
    for half in results.iterdir():  # of an attempt that died here
        shutil.rmtree(half) if half.is_dir() else half.unlink()
    if not lora:
        trainer.model.to(kept_as)
    trainer.save_model(str(results))  # with the tokenizer and its chat template
    (results / "training_args.bin").unlink(missing_ok=True)


def main():
    flags = argparse.ArgumentParser(description="Trains the model of a selfalign job; started by a worker.")
    flags.add_argument("--lora", type=int, default=0, metavar="RANK", help="train an adapter of this rank, not all weights")
    flags.add_argument("--micro-batch", type=int, default=4, help="examples on the device at once, at most")
    flags.add_argument("--max-length", type=int, default=2048, help="tokens of an example; longer ones lose their end")
    options = flags.parse_args()
    try:
        train(json.loads(Path(os.environ["SELFALIGN_JOB"]).read_text(encoding="utf-8")), options)
    except Exception as e:
        say(error=f"{type(e).__name__}: {e}")
        raise


if __name__ == "__main__":
    main()
