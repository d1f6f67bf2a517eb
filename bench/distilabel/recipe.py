"""The generate-and-score recipe in distilabel 1.5.3, against an OpenAI-compatible endpoint."""

import argparse
import json

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import KeepColumns, LoadDataFromDicts
from distilabel.steps.tasks import InstructionBacktranslation, TextGeneration


def main() -> None:
    args = argparse.ArgumentParser()
    args.add_argument("--url", required=True)
    args.add_argument("--prompts", required=True, help="JSONL with a field instruction")
    args.add_argument("--out", required=True, help="JSONL of the kept rows")
    args.add_argument("--cache", required=True)
    args.add_argument("--batch", type=int, default=50)
    a = args.parse_args()
    with open(a.prompts) as f:
        rows = [{"instruction": json.loads(line)["instruction"]} for line in f]

    def llm():
        return OpenAILLM(
            model="pocketlm-base", base_url=a.url, api_key="none",
            generation_kwargs={"max_new_tokens": 1024, "temperature": 0.7},
        )

    with Pipeline(name="instruction-backtranslation", cache_dir=a.cache) as pipeline:
        load = LoadDataFromDicts(data=rows, batch_size=a.batch)
        generate = TextGeneration(llm=llm(), input_batch_size=a.batch, output_mappings={"model_name": "generation_model"})
        score = InstructionBacktranslation(llm=llm(), input_batch_size=a.batch, output_mappings={"model_name": "scoring_model"})
        keep = KeepColumns(columns=["instruction", "generation", "generation_model", "score", "reason", "scoring_model"])
        load >> generate >> score >> keep
    distiset = pipeline.run(use_cache=True)
    with open(a.out, "w") as f:
        for split in distiset["default"].values():
            for row in split:
                f.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
