"""Trains adapters on preference pairs (DPO): the loss, the reference's log-probabilities and the LightningModule.
It may import the rest of `model`, `data` and the top-level modules."""
