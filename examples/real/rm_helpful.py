"""A helpfulness reward model: SmolLM2-135M-Instruct, LoRA and a score head, on people's votes of MT-Bench and PandaLM.

``python examples/real/rm_helpful.py`` (two CPU cores: about half an hour) rewrites ``adapters/rm-helpful``. Questions
and instructions are split, not rows: what it is measured on it has never read.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from trl import RewardConfig, RewardTrainer

import held_out
import training


def main() -> None:
    rows = [held_out.row(item) for suite in ("mt-bench", "pandalm") for item in held_out.pairs(suite, "train")]
    trainer = RewardTrainer(
        model=str(training.SEED_MODEL),
        args=RewardConfig(
            **training.shared(
                Path(tempfile.mkdtemp()),
                model_init_kwargs={"dtype": "bfloat16"},
                num_train_epochs=2,
                per_device_train_batch_size=8,
                learning_rate=3e-4,
                max_length=384,
                save_steps=500,
            )
        ),
        train_dataset=training.dataset(rows),
        peft_config=training.lora("SEQ_CLS"),
    )
    training.run(trainer, "rm-helpful", keep=[])


if __name__ == "__main__":
    main()
