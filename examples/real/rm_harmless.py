"""A harmlessness reward model: SmolLM2-135M-Instruct, LoRA and a score head, on Anthropic's harmless-base pairs.

``python examples/real/rm_harmless.py`` (two CPU cores: about half an hour) rewrites ``adapters/rm-harmless`` and its
checkpoints ``adapters/rm-harmless-step<N>``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from trl import RewardConfig, RewardTrainer

import held_out
import training


def main() -> None:
    rows = [held_out.row(item) for item in held_out.pairs("hh-rlhf:harmless-base", "train")]
    trainer = RewardTrainer(
        model=str(training.SEED_MODEL),
        args=RewardConfig(
            **training.shared(
                Path(tempfile.mkdtemp()),
                model_init_kwargs={"dtype": "bfloat16"},
                num_train_epochs=1,
                per_device_train_batch_size=8,
                learning_rate=3e-4,
                max_length=384,
                save_steps=50,
            )
        ),
        train_dataset=training.dataset(rows),
        peft_config=training.lora("SEQ_CLS"),
    )
    training.run(trainer, "rm-harmless", keep=[50, 100, 150])


if __name__ == "__main__":
    main()
