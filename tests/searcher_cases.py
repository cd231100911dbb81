"""A small search with each searcher of the catalogue, most of them on children that only compute a known function."""

from collections.abc import Mapping
from functools import cache

from cluster.config.flags import parse_run
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig

CELLS = "--space nasbench201"

SUPERNET = (
    f"{CELLS} --cells-per-stage 1 --stem-channels 2 --task digits --batch-size 8 --refit-batches 1 --weights-snapshot 0"
)


def given_flags(children: int) -> str:
    """Return the flags of a search of so many given architectures, at most 25."""
    return f"{CELLS} --samples {' '.join(f'{number // 5},{number % 5},2,3,4,0' for number in range(children))}"


FLAGS: Mapping[str, str] = {
    "reinforce": "--initial-depth 2 --max-depth 2",
    "ppo": "--initial-depth 2 --max-depth 2 --controller-units 8",
    "random": "--initial-depth 2 --max-depth 2",
    "given": given_flags(6),
    "grid": CELLS,
    "evolution": f"{CELLS} --population 3 --tournament 2",
    "bayesian": f"{CELLS} --random-starts 2 --candidates 20 --mutations 5",
    "local-search": f"{CELLS} --random-starts 2",
    "neat": "--space genomes --population 4",
    "progressive": "--space pnas --operations identity --blocks 3 --beam 8 --ensemble 2 --embedding 4 --hidden 4"
    " --fit-steps 4",
    "eas": "--space plain --filters 8 16 --units 8 16 --start conv-8-3 --layer-embedding 4 --encoder-units 4"
    " --stage-children 2 3 --wider-steps 1 --deeper-steps 1",
    "path-eas": "--space tree-cells --stages 1 --growth 4 --bottleneck 1 --max-depth 2 --edge-embedding 3"
    " --encoder-units 4 --stage-children 2 3",
    "one-shot": "--space enas-macro --layers 3 --operations conv_3x3 max_3x3 --filters 2 --task digits --batch-size 16"
    " --supernet-steps 4 --steps-per-child 2 --ghost-groups 2 --refit-batches 1 --weights-snapshot 0",
    "darts": f"{SUPERNET} --search-epochs 2 --steps-per-epoch 3 --steps-per-child 2 --order 2",
    "snas": f"{SUPERNET} --search-epochs 2 --steps-per-epoch 3 --steps-per-child 2 --cost parameters",
    "proxyless": f"{SUPERNET} --weights-only-epochs 1 --search-epochs 1 --steps-per-epoch 3 --steps-per-child 2"
    " --strengths-period 2 --mode full",
    "enas": "--space enas-macro --layers 3 --operations conv_3x3 max_3x3 --filters 2 --task digits --batch-size 16"
    " --search-epochs 2 --steps-per-epoch 2 --steps-per-child 2 --policy-children 1 --controller-units 8"
    " --refit-batches 1 --weights-snapshot 0",
    "smash": "--space smash --layers-per-stage 1 --banks 2 --bank-channels 2 --units 2 --kernels 3 --dilations 1"
    " --groups 1 2 --task digits --batch-size 8 --supernet-steps 4 --steps-per-child 2 --random-paths 2"
    " --hyper-growth 2 --hyper-depths 2 1 --refit-batches 1 --weights-snapshot 0",
    "seed-agem": "--space subnetworks --layers 1 --activations relu --controller-units 8 --controller-layers 1",
    "q-learning": "--space chain --image-size 8 --num-filters 4 8 --units 8 --max-layers 2 --schedule-models 4",
}
"""The options of each, so small that it chooses, learns, and comes to its second generation within six children."""

SHARING = ("one-shot", "enas", "smash", "darts", "snas", "proxyless")
"""Those whose children share weights, and train on images."""


@cache
def case(searcher: str, *words: str) -> RunConfig:
    """Return the configuration of a searcher's small search, changed by more flags."""
    flags = ["--searcher", searcher, *FLAGS[searcher].split(), *words]
    return parse_run(RECIPES["synthetic"](), flags, "synthetic")
