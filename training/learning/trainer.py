"""Hugging Face's Trainer with our objective, learning rates, order of posts and evaluation."""

import shutil
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader
from transformers import (
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations.integration_utils import get_available_reporting_integrations

from model import SMNER
from model.recognizer import choose_device, has_bfloat16
from training.data.dataset import Collator, PostDataset
from training.data.sampler import GroupedSampler
from training.learning.averaging import AveragedAdamW
from training.learning.launch import join_processes
from training.learning.objective import Losses, Objective
from training.recipes.recipe import Recipe
from training.scoring.evaluation import Predictions, predict, score

_EVALUATION_BATCH = 32


class SMNERTrainer(Trainer):
    """Trains SMNER by a recipe.

    Args:
        train: one dataset a source.
        valid: the valid splits by name; the mean of their F1 chooses the checkpoint.
        output: checkpoints and TensorBoard's events go there.
    """

    def __init__(
        self,
        model: SMNER,
        recipe: Recipe,
        collator: Collator,
        *,
        train: Sequence[PostDataset],
        valid: Mapping[str, PostDataset],
        output: Path,
    ) -> None:
        self.recipe = recipe
        self.parts = train
        self.valid = valid
        self.collator = collator
        self.objective = Objective(
            no_entity_weight=recipe.no_entity_weight,
            cmib_weight=recipe.cmib_weight,
            cmib_beta=recipe.cmib_beta,
            consistency_weight=recipe.consistency_weight,
        )
        self._logged: list[Losses] = []
        super().__init__(
            model=model,
            args=_arguments(recipe, output, evaluate=bool(valid)),
            data_collator=collator,
            train_dataset=ConcatDataset(train),
            eval_dataset=ConcatDataset(valid.values()) if valid else None,
            callbacks=[_LogEpoch(), *([_Patience(recipe.patience)] if valid and recipe.patience else [])],
        )
        if self.is_fsdp_enabled and (recipe.weight_average or recipe.fine_tune_image_encoder):
            raise ValueError("weight_average and fine_tune_image_encoder do not work with FSDP")
        if self.args.process_index:  # Trainer seeds all processes alike, and their dropout and z would be the same
            torch.manual_seed(recipe.seed + self.args.process_index)

    optimizer: torch.optim.Optimizer | None
    control: TrainerControl

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW with a learning rate for each encoder and one for the heads; vectors (biases, norms) do not decay."""
        if self.optimizer is None:
            trained = model or self.model
            groups: dict[tuple[float, float], list[Tensor]] = {}
            for name, parameter in trained.named_parameters():
                if parameter.requires_grad:
                    decay = self.recipe.weight_decay if parameter.dim() > 1 else 0.0
                    groups.setdefault((self._learning_rate(name), decay), []).append(parameter)
            settings = [
                {"params": parameters, "lr": lr, "weight_decay": decay} for (lr, decay), parameters in groups.items()
            ]
            self.optimizer = (
                AveragedAdamW(settings, decay=self.recipe.weight_average, fused=True)
                if self.recipe.weight_average
                else torch.optim.AdamW(settings, fused=True)
            )
        return self.optimizer

    def _learning_rate(self, parameter: str) -> float:
        rates = {
            "text_encoder": self.recipe.encoder_learning_rate,
            "image_encoder": self.recipe.image_encoder_learning_rate,
        }
        return next(
            (rate for part, rate in rates.items() if part in parameter.split(".")), self.recipe.head_learning_rate
        )

    def _get_train_sampler(self, train_dataset: Any = None) -> GroupedSampler:  # noqa: ARG002 - Trainer's signature
        return GroupedSampler(
            [part.length(i) for part in self.parts for i in range(len(part))],
            [part.has_image(i) for part in self.parts for i in range(len(part))],
            batch_size=self.args.train_batch_size * self.args.world_size,
            seed=self.recipe.seed,
            process=self.args.process_index,
            processes=self.args.world_size,
        )

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Trainer's, but the sampler shares the batches out: accelerate would fill the last one up with other posts."""
        loader: DataLoader[Any] = DataLoader(
            self.train_dataset,
            batch_size=self.args.train_batch_size,
            sampler=self._get_train_sampler(),
            collate_fn=self.collator,
            pin_memory=self.args.dataloader_pin_memory,
        )
        prepared: DataLoader[Any] = prepare_data_loader(
            loader, device=self.args.device, num_processes=1, process_index=0, put_on_device=True
        )
        return prepared

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, **_: object
    ) -> Any:
        """The objective on a batch; each photo is dropped with the recipe's chance."""
        inputs = dict(inputs)
        labels = inputs.pop("labels")
        passes = 2 if self.recipe.consistency_weight else 1
        # both passes as one batch: DDP allows one forward pass a step where a parameter may stay unused
        inputs = {key: torch.cat([tensor] * passes) for key, tensor in inputs.items()}
        output = model(**self._drop_images(inputs), output_bottleneck=True, passes=passes)
        losses = (self.objective.twice if passes == 2 else self.objective)(output, labels)
        self._logged.append(Losses(*(term.detach() for term in losses)))
        return (losses.total, output) if return_outputs else losses.total

    def _drop_images(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        if "image_mask" not in inputs:
            return inputs
        mask = inputs["image_mask"]
        kept = torch.rand(mask.shape, device=mask.device) >= self.recipe.image_dropout
        return {**inputs, "image_mask": mask & kept}

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the terms of the loss to what is logged of training."""
        if "loss" in logs and self._logged:
            shares = torch.stack([torch.stack(losses) for losses in self._logged])  # (steps, 5)
            steps = [Losses(*step) for step in self.accelerator.reduce(shares, "mean")]
            contrasted = [losses for losses in steps if losses.info_nce] or steps
            logs["loss_spans"] = round(_mean(losses.spans for losses in steps), 4)
            for term in ("info_nce", "kl", "rank"):
                logs[term] = round(_mean(getattr(losses, term) for losses in contrasted), 4)
            self._logged.clear()
        super().log(logs, *args, **kwargs)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError, SafetensorError) as error:  # what their writers raise on a full disk
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            shutil.rmtree(folder, ignore_errors=True)
            raise OSError(f"{folder}: could not be written ({error}); --resume goes on from the one before") from error

    def save_model(self, *args: Any, **kwargs: Any) -> None:
        """Save the weights that are evaluated; where they are averages, the optimizer's state has the trained ones."""
        self._evaluated_weights()
        super().save_model(*args, **kwargs)

    def _evaluated_weights(self) -> None:
        if self.optimizer is not None and self.recipe.weight_average:
            self.optimizer.eval()  # type: ignore[attr-defined]

    def entities(self, dataset: PostDataset) -> Predictions:
        """What the network finds in each post."""
        return predict(self.model, dataset, self.collator, batch_size=_EVALUATION_BATCH)

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """F1 on each valid split, and their mean as ``eval_f1``."""
        self._evaluated_weights()
        metrics = {}
        for name, dataset in self.valid.items():
            metrics[f"{metric_key_prefix}_{name}_f1"] = score(dataset.posts, self.entities(dataset)).f1
        metrics[f"{metric_key_prefix}_f1"] = sum(metrics.values()) / len(metrics)
        # every process decides by the same figures when to stop and what was best, whatever its rounding
        metrics = dict(broadcast_object_list([metrics])[0])
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class _LogEpoch(TrainerCallback):
    """Logs the loss after each epoch too: small data have fewer steps than lie between two entries."""

    def on_epoch_end(self, _: TrainingArguments, state: TrainerState, control: TrainerControl, **__: Any) -> None:  # noqa: ARG002
        control.should_log = True


class _Patience(EarlyStoppingCallback):
    """Counts no epoch after which nothing is found.

    Nearly no span is an entity, and on small data it takes epochs until the network calls one so.
    """

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **others: Any) -> None:
        if metrics["eval_f1"] > 0:
            super().on_evaluate(args, state, control, metrics, **others)


def check_tracker(recipe: Recipe) -> None:
    """Refuse a tracker that Trainer does not know or that is not installed, which it finds only after the photos."""
    there = get_available_reporting_integrations()
    if recipe.report_to not in (None, "none", "all", *there):
        raise ValueError(f"report_to: {recipe.report_to} is not installed; there are {', '.join(there)}")


def in_bfloat16(recipe: Recipe) -> bool:
    """Whether to train in mixed precision; says so where the recipe wants it and the device has it not."""
    device = choose_device("auto")
    if recipe.bf16 and not has_bfloat16(device):
        join_processes().print(f"{device} has no bfloat16, so this trains in float32")
        return False
    return recipe.bf16


def _arguments(recipe: Recipe, output: Path, *, evaluate: bool) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(output),
        num_train_epochs=recipe.epochs,
        max_steps=recipe.max_steps,
        per_device_train_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation,
        learning_rate=recipe.head_learning_rate,
        warmup_steps=recipe.warmup,
        max_grad_norm=1.0,
        seed=recipe.seed,
        bf16=in_bfloat16(recipe),
        use_cpu=not torch.cuda.is_available(),
        eval_strategy="epoch" if evaluate else "no",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=evaluate,
        metric_for_best_model="f1" if evaluate else None,
        greater_is_better=True if evaluate else None,
        logging_steps=50,
        logging_nan_inf_filter=False,  # it logs the mean so far in place of a loss that is none
        report_to=recipe.report_to or "none",
        remove_unused_columns=False,
        restore_callback_states_from_checkpoint=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        ddp_find_unused_parameters=True,  # a batch without photos leaves the image side unused
    )
    # With several GPUs and one process Trainer would split batches by nn.DataParallel, which cannot carry our outputs.
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments


def _mean(values: Any) -> float:
    tensors = list(chain(values))
    return float(sum(float(tensor) for tensor in tensors) / len(tensors))
