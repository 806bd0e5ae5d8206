"""Whether attention matters: interventions in the forward pass, and how they change the probability of a phrase.
It may import modules of `attention` that measure, but not those that report."""
