"""Two ranks train windows of one long sequence; each prints how far its spikes are from those without the wrapper."""

import sys

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn


class Net(nn.Module):
    def __init__(self):
        from snn_delay_plugins.snntorch import AdLIFPlus

        super().__init__()
        torch.manual_seed(0)
        self.fc, self.neuron = nn.Linear(6, 10), AdLIFPlus(features=10, init_hidden=True)
        with torch.no_grad():
            self.fc.weight.mul_(4)
            self.fc.bias.add_(1)

    def forward(self, window):
        return torch.stack([self.neuron(self.fc(step)) for step in window])


def run(rank: int, store: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    torch.manual_seed(5)
    windows = torch.rand(3, 5, 2, 3, 6)[:, :, rank]
    alone, wrapped = Net(), nn.parallel.DistributedDataParallel(Net())
    outputs = []
    for net, neuron in ((alone, alone.neuron), (wrapped, wrapped.module.neuron)):
        spikes = []
        for window in windows:
            spikes.append(net(window))
            spikes[-1].sum().backward()
            neuron.detach_states()
        outputs.append(torch.stack(spikes).detach())
    assert 0.05 < outputs[0].mean() < 0.95
    assert torch.equal(*outputs), f"rank {rank}"
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    mp.start_processes(run, args=(sys.argv[1],), nprocs=2, start_method="fork")
