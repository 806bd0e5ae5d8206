"""The `plan` command: predicts memory, time and cost of a run before it starts, and writes plan.json on request."""

from onion_lightning.data.module import OnionDataModule
from onion_lightning.errors import check_range
from onion_lightning.model.module import OnionModule
from onion_lightning.output_folder import check_folder, write_folder
from onion_lightning.training.session import Session

__all__ = ["run_plan"]

DATA = "plan.json"


def run_plan(
    session: Session,
    model: OnionModule,
    datamodule: OnionDataModule,
    ckpt_path: str | None = None,
    gpu: str | None = None,
    network: str | None = None,
    price_per_hour: float | None = None,
    probe: bool = False,
    find_batch_size: bool = False,
    output: str | None = None,
    overwrite: bool = False,
) -> None:
    """Predict memory, tokens, time and cost of a run of fit, and how to make it fit. Loads no weights, except for --probe.

    Args:
        session: the device of this machine, and the Trainer's flags.
        model: the flags of the model.
        datamodule: the flags of the corpus.
        ckpt_path: checkpoint that fit would resume from: a file, last or best; only its settings are used.
        gpu: card to plan for, such as "A100 80GB" or RTX4090, or its memory, such as 24GB; by default, the card of this
            machine, or its CPU.
        network: what connects each node to the others, such as "25 Gbit/s", "10 GB/s" or "25 Gbit/s, 50 us" (its latency); to
            see what communication takes with --trainer.num_nodes above 1.
        price_per_hour: price of one device for an hour, in any currency.
        probe: train three optimizer steps on this machine, and compare their time and memory with the prediction.
        find_batch_size: look for the largest --data.batch_size that fits and divides the global batch.
        output: folder for plan.json; by default, nothing is written.
        overwrite: also replace a plan.json in the output folder that plan has not written.
    """
    from onion_lightning.planning.report.result import MARK, gather_plan  # late: imports peft and bitsandbytes
    from onion_lightning.planning.report.terminal import show_plan

    check_range("--price_per_hour", price_per_hour, price_per_hour is None or price_per_hour >= 0, "at least 0")
    folder = None if output is None else check_folder(output, [DATA], overwrite, mark=MARK)
    plan = gather_plan(session, model, datamodule, gpu, network, price_per_hour, probe, find_batch_size)
    if folder is not None:
        write_folder(folder, {DATA: plan.to_json()})
    show_plan(plan, None if folder is None else folder / DATA)
