"""Plans a training run: memory on a given card, tokens, time and cost, and what makes the run fit.
It may import planning, training, model, data, pretrained and the top-level modules."""
