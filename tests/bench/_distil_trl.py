"""TRL's side of `distil-speed` and `gpu`: its SDFT trainer, which distils a model told more into itself untold.

Set to what our learner does: reverse KL over the student's top k with a tail bucket, the frozen base as teacher
(the LoRA switched off), one answer a prompt. The loop, the optimiser, clipping, padding, rollout and the two
forward passes are TRL's and transformers' own. On a GPU the frozen weights are in bf16, as is usual with TRL.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch
from _distil_side import master_of, peak_mb, ready, timed
from datasets import Dataset
from peft import LoraConfig
from transformers import TrainerCallback
from trl.experimental.sdft import SDFTConfig, SDFTTrainer
from trl.experimental.sdft.loss_utils import compute_divergence
from trl.experimental.sdft.sdft_trainer import DemonstrationTeacherContextBuilder
from trl.trainer.utils import selective_log_softmax

from oel_server.learner.compute import bf16_products
from oel_server.learner.items import DistilConfig

MANY_STEPS = 1_000


def trls(job: dict[str, Any], exchange: Callable[[dict[str, float]], None]) -> None:
    """TRL's own training loop; each step waits until it is asked for."""
    master, device = master_of(job), torch.device(job["device"])
    if "model" in job:
        # The weights are float32 by now, but transformers remembers the file that they came from.
        del master.model.hf_quantizer, master.model.config.quantization_config
        master.model.is_quantized = False
    if device.type == "cuda":
        master.model.bfloat16()
    tokenizer = master.tokenizer
    tokenizer.padding_side = "left"
    config = DistilConfig()
    rows, told = job["items"], None
    if job["level"] == "choice":
        rows = [item | {"answer": choice} for item in rows for choice in item["choices"]]
    if not job["rollout"]:
        told = [tokenizer(row["answer"], add_special_tokens=False).input_ids for row in rows]
        told = [[*ids, tokenizer.eos_token_id] for ids in told]
    settings = SDFTConfig(
        output_dir=str(Path(job["folder"]) / f"trl-{os.getpid()}"),
        use_cpu=device.type == "cpu",
        bf16=isinstance(bf16_products(device), torch.autocast) and not job.get("exact", False),
        gradient_checkpointing=job["checkpointing"],
        per_device_train_batch_size=len(rows),
        max_steps=MANY_STEPS,
        learning_rate=config.lr,
        lr_scheduler_type="constant",
        weight_decay=0.01,
        max_grad_norm=config.clip,
        num_generations=1,
        max_prompt_length=None,
        max_completion_length=job["answer_tokens"],
        generation_kwargs={"min_new_tokens": job["answer_tokens"]},
        shuffle_dataset=False,
        distillation_mode="topk_logits",
        distillation_topk=min(config.top_k, len(tokenizer) - 1),
        distillation_alpha=1.0,
        distillation_add_tail=True,
        teacher_model_kind="base",
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    trainer = Beside(
        model=master.model,
        args=settings,
        train_dataset=Dataset.from_list(
            [{"prompt": row["student"], "privileged_context": row["teacher"]} for row in rows]
        ),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=job["rank"], lora_alpha=config.alpha, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
    )
    trainer.teacher_context_builder = Rendered(trainer)
    trainer.told = told
    trainer.choices = [len(item["choices"]) for item in job["items"]] if job["level"] == "choice" else None
    trainer.add_callback(Waits(trainer, exchange, device))
    trainer.train()


class Rendered(DemonstrationTeacherContextBuilder):  # type: ignore[misc]
    """Takes the teacher's prompt as it is, rendered like the student's."""

    def _compose_teacher_prompt(self, prompt: str, privileged_context: str) -> str:
        return privileged_context


class Beside(SDFTTrainer):  # type: ignore[misc]
    """The trainer, told what was answered where a step without rollout is timed, and with a loss over choices."""

    told: list[list[int]] | None
    choices: list[int] | None
    """Rows of each state."""
    seen: float
    writing: dict[str, float]

    def _generate(self, prompt_ids: list[list[int]]) -> Any:
        if self.told is not None:
            return prompt_ids, self.told
        with timed(self.writing, "rollout", self.accelerator.device):
            return super()._generate(prompt_ids)

    def _compute_self_distillation_loss(self, model: Any, inputs: Any, logits: Any) -> Any:
        if self.choices is None:
            return super()._compute_self_distillation_loss(model, inputs, logits)
        student, teacher = (
            (selective_log_softmax(x.float(), logits.completion_ids) * logits.loss_mask).sum(-1)
            for x in (logits.student_logits, logits.teacher_logits)
        )
        states = zip(student.split(self.choices), teacher.split(self.choices), strict=True)
        return torch.stack(
            [compute_divergence(s.log_softmax(0), t.log_softmax(0), 1.0) for s, t in states]
        ).mean()

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(*args, **kwargs)
        self.seen = loss.item()
        return loss


class Waits(TrainerCallback):  # type: ignore[misc]
    """Times a step from its beginning, rollout included, to after the optimiser."""

    def __init__(
        self, trainer: Beside, exchange: Callable[[dict[str, float]], None], device: torch.device
    ) -> None:
        self.trainer, self.exchange, self.device = trainer, exchange, device

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        if not hasattr(self, "clock"):
            self.exchange(ready(self.device))
        self.trainer.writing = {}
        self.clock = timed(self.trainer.writing, "step", self.device)
        self.clock.__enter__()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.clock.__exit__(None, None, None)
        found = self.trainer.writing
        self.exchange(found | {"loss": self.trainer.seen, "peak_mb": peak_mb(self.device)})
