"""Hugging Face's Trainer with our objective, learning rates, order of posts and evaluation."""

import shutil
from collections.abc import Mapping
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

from model.device import choose_device, has_bfloat16
from model.preprocessing.processor import Batch
from training.data.dataset import Collator, PostDataset
from training.data.sampler import GroupedSampler
from training.learning.distributed import join_processes
from training.learning.objective import Losses
from training.recipes.recipe import Recipe
from training.scoring.prediction import predict
from training.scoring.scores import Predictions, score

_EVALUATION_BATCH = 32


class SMNERTrainer(Trainer):
    """Trains a network by a recipe.

    Args:
        objective: the network and its loss; evaluation uses its ``network``.
        train: the training data by source name.
        valid: the valid splits by name; the mean of their F1 chooses the best epoch.
        output: folder for the trainer's checkpoints and TensorBoard's events.
    """

    optimizer: torch.optim.Optimizer | None
    control: TrainerControl

    def __init__(
        self,
        objective: nn.Module,
        recipe: Recipe,
        collator: Collator,
        *,
        train: Mapping[str, PostDataset],
        valid: Mapping[str, PostDataset],
        output: Path,
    ) -> None:
        self.recipe = recipe
        self.train_sets = train
        self.valid_sets = valid
        self.collator = collator
        self._losses: list[Losses] = []  # since the last log entry
        super().__init__(
            model=objective,
            args=_arguments(recipe, output, evaluate=bool(valid)),
            data_collator=collator,
            train_dataset=ConcatDataset(train.values()),
            eval_dataset=ConcatDataset(valid.values()) if valid else None,
            callbacks=[_LogEpoch(), *([_EarlyStopping(recipe.patience)] if valid and recipe.patience else [])],
        )
        if self.is_fsdp_enabled:
            raise ValueError("training runs in one process or in several with DDP, not with FSDP")
        if self.args.process_index:  # Trainer seeds all processes alike: dropout and z would be the same
            torch.manual_seed(recipe.seed + self.args.process_index)

    @property
    def network(self) -> Any:
        """The network being trained; float32 outside the objective, like a checkpoint."""
        return self.model.network

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make AdamW with a learning rate for each encoder and one for the heads; biases and norms do not decay."""
        if self.optimizer is None:
            groups: dict[tuple[float, float], list[Tensor]] = {}
            for name, parameter in (model or self.model).named_parameters():
                if parameter.requires_grad:
                    decay = self.recipe.weight_decay if parameter.dim() > 1 else 0.0
                    groups.setdefault((self._learning_rate(name), decay), []).append(parameter)
            settings = [
                {"params": parameters, "lr": rate, "weight_decay": decay}
                for (rate, decay), parameters in groups.items()
            ]
            self.optimizer = torch.optim.AdamW(settings, fused=True)
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
            [part.length(i) for part in self.train_sets.values() for i in range(len(part))],
            [part.has_image(i) for part in self.train_sets.values() for i in range(len(part))],
            batch_size=self.args.train_batch_size * self.args.world_size,
            seed=self.recipe.seed,
            process=self.args.process_index,
            processes=self.args.world_size,
        )

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Let the sampler divide each batch among the processes; accelerate would pad the last one with other posts."""
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

    def compute_loss(self, model: nn.Module, inputs: Batch, return_outputs: bool = False, **_: object) -> Any:
        """Run the objective on a batch."""
        losses: Losses = model(inputs)
        self._losses.append(Losses(*(term.detach() for term in losses)))
        return (losses.total, losses) if return_outputs else losses.total

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the loss terms to a training entry; the bottleneck's are means over batches with images."""
        if "loss" in logs and self._losses:
            shares = torch.stack([torch.stack(losses) for losses in self._losses])  # (steps, 5)
            steps = Losses(*self.accelerator.reduce(shares, "mean").T)
            contrasted = steps.info_nce != 0
            logs["loss_spans"] = round(float(steps.spans.mean()), 4)
            for term in ("info_nce", "kl", "rank"):
                values = getattr(steps, term)
                logs[term] = round(float(values[contrasted].mean() if contrasted.any() else values.mean()), 4)
            self._losses.clear()
        super().log(logs, *args, **kwargs)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError, SafetensorError) as error:  # raised when the disk is full
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            shutil.rmtree(folder, ignore_errors=True)
            raise OSError(
                f"{folder}: could not be written ({error}); --resume continues from the previous one"
            ) from error

    def predict_entities(self, dataset: PostDataset) -> Predictions:
        """Find the entities of each post with the current weights."""
        return predict(self.network, dataset, self.collator, batch_size=_EVALUATION_BATCH)

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """Compute F1 on each valid split, and their mean as ``eval_f1``."""
        metrics = {}
        for name, dataset in self.valid_sets.items():
            metrics[f"{metric_key_prefix}_{name}_f1"] = score(dataset.posts, self.predict_entities(dataset)).f1
        metrics[f"{metric_key_prefix}_f1"] = sum(metrics.values()) / len(metrics)
        # rounding differs between processes, but all must agree when to stop and which epoch was best
        metrics = dict(broadcast_object_list([metrics])[0])
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class _LogEpoch(TrainerCallback):
    """Logs the loss after each epoch too: an epoch on small data is shorter than the logging interval."""

    def on_epoch_end(self, _: TrainingArguments, state: TrainerState, control: TrainerControl, **__: Any) -> None:  # noqa: ARG002
        control.should_log = True


class _EarlyStopping(EarlyStoppingCallback):
    """Stops after ``patience`` epochs without a better F1, not counting those before the first entity is found.

    Hardly any span is an entity, so on small data the network takes epochs to find one.
    """

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **others: Any) -> None:
        if metrics["eval_f1"] > 0:
            super().on_evaluate(args, state, control, metrics, **others)


def check_tracker(recipe: Recipe) -> None:
    """Refuse a tracker that is not installed; Trainer itself notices only after the images are encoded."""
    installed = get_available_reporting_integrations()
    if recipe.report_to not in (None, "none", "all", *installed):
        raise ValueError(f"report_to: {recipe.report_to} is not installed; installed are {', '.join(installed)}")


def in_bfloat16(recipe: Recipe) -> bool:
    """Whether to use mixed precision; prints a line if the recipe asks for it but the device lacks it."""
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
        logging_nan_inf_filter=False,  # it would hide a NaN or infinite loss
        report_to=recipe.report_to or "none",
        remove_unused_columns=False,
        restore_callback_states_from_checkpoint=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        ddp_find_unused_parameters=True,  # a batch without images leaves the image side unused
    )
    # with several GPUs in one process Trainer would use nn.DataParallel, which cannot gather our outputs
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments
