"""A DPO policy with SmolLM2-135M-Instruct as its reference, on people's votes of PandaLM.

``python examples/real/dpo_helpful.py`` (two CPU cores: about a quarter of an hour) rewrites ``adapters/dpo-helpful``.
Its rows are the training side of PandaLM alone: short answers, so that the log-probabilities over a vocabulary of
49,152 stay affordable on a CPU.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from trl import DPOConfig, DPOTrainer

import held_out
import training


def main() -> None:
    rows = [held_out.row(item) for item in held_out.pairs("pandalm", "train")]
    trainer = DPOTrainer(
        model=str(training.SEED_MODEL),
        args=DPOConfig(
            **training.shared(
                Path(tempfile.mkdtemp()),
                model_init_kwargs={"dtype": "bfloat16"},
                num_train_epochs=1,
                per_device_train_batch_size=8,
                learning_rate=3e-4,
                beta=0.1,
                max_length=384,
                save_steps=500,
            )
        ),
        train_dataset=training.dataset(rows),
        peft_config=training.lora("CAUSAL_LM"),
    )
    training.run(trainer, "dpo-helpful", keep=[])


if __name__ == "__main__":
    main()
