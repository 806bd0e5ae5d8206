"""The memory of this process."""

import torch

from onion_lightning.process_memory import peak_so_far, release_memory, status


def test_the_peak_is_measured_anew_after_each_look_at_it():
    wasted = torch.ones(50_000_000)  # 200 MB
    assert status("VmRSS") >= wasted.nbytes
    del wasted
    release_memory()
    assert peak_so_far() - status("VmRSS") > 150_000_000
    assert peak_so_far() - status("VmRSS") < 50_000_000
