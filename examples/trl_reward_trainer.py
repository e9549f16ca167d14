"""Train a reward model with TRL and evaluate every saved checkpoint: needs ``pip install 'rmbench[hf]' trl``.

python examples/trl_reward_trainer.py MODEL OUTPUT
rmbench report --x step
"""

from __future__ import annotations

import sys

import torch
from datasets import Dataset
from trl import RewardConfig, RewardTrainer

from rmbench.callback import EvaluateCheckpoints

PAIRS = [
    {
        "chosen": [{"role": "user", "content": f"What is {n} + {n}?"}, {"role": "assistant", "content": f"{2 * n}."}],
        "rejected": [{"role": "user", "content": f"What is {n} + {n}?"}, {"role": "assistant", "content": f"{n}."}],
    }
    for n in range(1, 200)
]


def main(model: str, output: str) -> None:
    gpu = torch.cuda.is_available()
    trainer = RewardTrainer(
        model=model,
        args=RewardConfig(
            output_dir=output, num_train_epochs=1, save_steps=10, report_to="none", use_cpu=not gpu, bf16=gpu
        ),
        train_dataset=Dataset.from_list(PAIRS),
        callbacks=[EvaluateCheckpoints("starter", out="results")],
    )
    trainer.train()


if __name__ == "__main__":
    main(*sys.argv[1:])
