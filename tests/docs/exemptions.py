"""The commands of the pages that `test_commands.py` does not run, each with the reason."""

from collections.abc import Mapping

PLACEHOLDER = "is a form with a word for the reader to replace"
INSTALLS = "sets up a virtual environment or runs all tests; `make test` itself is what runs this"
INDEX = "installs from a package index"
CLOUD = "needs an object store or a service that is not here"
SERVES = "serves or watches until Ctrl-C"
YEARS = "trains for days or years: it is what a cluster is for"
TERMINALS = "needs a search that runs in another terminal; tests/cluster/runners/test_stopping.py does it"
IMAGES = "needs images that the page's DIR lacks, and many minutes"
SUPERNET = "needs a run with shared weights; tests/cluster/correlation/test_command.py makes one"
SAME_SPACE = "needs a run of the same space; tests/cluster/runners/test_warm_start.py makes one"
GOES_ON = "goes on from a whole search; tests/cluster/replay/test_continuation.py makes one"
FINISHED = "follows another one that has begun with other numbers; tests/cluster/finish/test_refusals.py has such"
ASKS = "asks before it removes the run that the page's other commands show; tests/cluster/cli/test_remove.py answers"
OWN_IMAGES = "needs a folder of images; tests/cluster/runners/test_own_images.py makes one"
OWN_TEXT = "needs a folder of texts; tests/child_trainer/tasks/test_language.py writes one"
OWN_TABLE = "needs a table; tests/cluster/runners/test_own_table.py writes one"
WEIGHTS = "needs a run that has kept weights; tests/cluster/export/test_export.py makes one"
PORT = "binds a fixed port for as long as a search of minutes runs"

NIGHT = "takes a night; tests/cluster/survey/test_survey.py runs a slice"

MINUTES = "takes up to minutes; `make docs` runs it"
"""These are run by `NASCLUSTER_DOCS=1`."""

EXEMPT: Mapping[str, str] = {
    # several objectives
    "nascluster launch digits --objective accuracy --objective latency=min --target latency=1ms": MINUTES,
    "nascluster launch digits --searcher evolution --objective accuracy --objective parameters=min": MINUTES,
    "nascluster launch nasbench201 --data DIR --searcher evolution --objective latency=min --latency-device pixel3"
    " --max-children 1000 --local": MINUTES,
    # make and pip
    "make demo": INSTALLS,
    "make test": INSTALLS,
    "make install": INSTALLS,
    "make chaos": INSTALLS,
    ". .venv/bin/activate": INSTALLS,
    "NASCLUSTER_CHAOS=10 pytest tests/chaos/test_kills.py -s": INSTALLS,
    "NASCLUSTER_CHAOS=3 pytest tests/chaos/test_shared_weights.py -s": INSTALLS,
    "NASCLUSTER_CHAOS=10 pytest tests/chaos/test_replay.py -k weights -s": INSTALLS,
    "pip install '.[s3]'": INDEX,
    "pip install '.[tensorboard]'": INDEX,
    "pip install '.[mlflow]'": INDEX,
    "pip install '.[onnx]'": INDEX,
    "pip install 'dist/nascluster-0.1.0-py3-none-any.whl[s3]'": INDEX,
    "pip install '.[s3,tensorboard,mlflow]'": INDEX,
    "python -m pip wheel --no-deps --wheel-dir dist .": INDEX,
    # searches
    "nascluster launch zoph2017-cifar10 --data DIR": YEARS,
    "nascluster launch zoph2017-cifar10 --data DIR --batching barrier": YEARS,
    "nascluster launch zoph2017-cifar10 --data DIR --batching stream --importance-clip 1": YEARS,
    "nascluster launch zoph2017-ptb --data DIR": YEARS,
    "nascluster launch cifar10 --data DIR --max-hours 12 --max-gpu-hours 200 --max-cost 50 --cost-per-gpu-hour 2.1": (
        YEARS
    ),
    "nascluster launch wikitext2-rnn --data DIR --base 8 --max-children 64": YEARS,
    "python -m child_trainer nas-cell --task wikitext2 --data DIR --target-parameters 4000000 --max-vocabulary 10000": (
        YEARS
    ),
    "nascluster launch nasnet-cifar10 --data DIR": YEARS,
    "nascluster launch amoebanet-cifar10 --data DIR": YEARS,
    "nascluster launch pnas-cifar10 --data DIR": YEARS,
    "nascluster launch metaqnn-cifar10 --data DIR": YEARS,
    "nascluster launch hnas-cifar10 --data DIR": YEARS,
    "nascluster launch enas-macro-cifar10 --data DIR": YEARS,
    "nascluster launch enas-micro-cifar10 --data DIR": YEARS,
    "nascluster launch enas-macro-digits": MINUTES,
    "nascluster launch enas-micro-digits": MINUTES,
    "nascluster launch smash-cifar10 --data DIR": YEARS,
    "nascluster launch smash-digits": MINUTES,
    "nascluster launch one-shot-cifar10 --data DIR": YEARS,
    "nascluster launch darts-cifar10 --data DIR": YEARS,
    "nascluster launch snas-cifar10 --data DIR": YEARS,
    "nascluster launch proxyless-cifar10 --data DIR": YEARS,
    "nascluster launch nasbench201-supernet --data DIR": IMAGES,
    "nascluster launch nasbench201-supernet --searcher darts --task fashion-mnist --data DIR": IMAGES,
    "nascluster launch nasbench201-supernet --data DIR --cells-per-stage 5 --stem-channels 16 --supernet-steps 44000"
    " --steps-per-child 220 --batch-size 256 --gpus-per-child 1": YEARS,
    "nascluster launch one-shot-digits": MINUTES,
    "nascluster launch darts-digits": MINUTES,
    "nascluster launch darts-rnn": MINUTES,
    "nascluster launch darts-rnn --local": MINUTES,
    "nascluster launch enas-rnn --local --seed 1": MINUTES,
    "nascluster launch darts-rnn --task ptb --data DIR": YEARS,
    "nascluster launch darts-rnn --task ptb --data DIR --from-run NAME --top 1 --network final --hidden-size 850"
    " --epochs 100 --batch-size 64 --learning-rate 20 --momentum 0 --weight-decay 8e-7 --clip-norm 0.25": YEARS,
    "nascluster launch enas-rnn": MINUTES,
    "nascluster launch enas-rnn --task ptb --data DIR": YEARS,
    "nascluster launch darts-digits --order 2": MINUTES,
    "nascluster launch darts-digits --strengths-objective weighted": MINUTES,
    "nascluster launch snas-digits": MINUTES,
    "nascluster launch proxyless-digits": MINUTES,
    'nascluster launch proxyless-digits --cost latency --cost-loss "add#linear" --cost-weight 0.5'
    " --cost-reference 500": MINUTES,
    "nascluster launch digits --searcher one-shot --space enas-macro --layers 6 --filters 16 --max-children 140"
    " --supernet-steps 2000": MINUTES,
    "nascluster launch nasnet-digits": MINUTES,
    "nascluster launch amoebanet-digits": MINUTES,
    "nascluster launch pnas-digits": MINUTES,
    "nascluster launch metaqnn-digits": MINUTES,
    "nascluster launch hnas-digits": MINUTES,
    "nascluster launch seed-agem-digits": MINUTES,
    "nascluster launch eas-digits": MINUTES,
    "nascluster launch eas-dense-digits": MINUTES,
    "nascluster launch eas-cifar10 --data DIR": YEARS,
    "nascluster launch eas-dense-cifar10 --data DIR": YEARS,
    "nascluster launch path-eas-digits": MINUTES,
    "nascluster launch path-eas-cifar10 --data DIR": YEARS,
    "nascluster launch neat-xor": MINUTES,
    "nascluster launch neat-pole": MINUTES,
    "nascluster launch nasbench201 --data DIR --searcher q-learning --schedule-models 50 --q-learning-rate 0.3"
    " --trace 0.5": MINUTES,
    "nascluster compare q-learning:schedule-models=50,q-learning-rate=0.3,trace=0.5 random --recipe nasbench201"
    " --data DIR --seeds 20 --budget 12000s": MINUTES,
    "nascluster launch nasbench201 --data DIR --searcher bayesian --encoding features": MINUTES,
    "nascluster launch digits --searcher bayesian --random-starts 4 --initial-depth 4 --max-depth 4": MINUTES,
    "nascluster launch digits --space amoebanet --searcher evolution --cells-per-stage 1 --filters 8 --local": MINUTES,
    "nascluster launch digits --space enas-macro --layers 4 --filters 8 --searcher evolution": MINUTES,
    "nascluster launch digits --space mbconv --searcher random --stem-stride 1 --stem-filters 8 --first-filters 8"
    " --widths 8 16 24 --blocks 2 2 2 --strides 1 2 1 --last-filters 64": MINUTES,
    "python -m child_trainer nasnet-a.json --task digits": MINUTES,
    "nascluster launch digits --early-stop median": MINUTES,
    "nascluster launch text-rnn --name cells": MINUTES,
    "nascluster finish cells --top 2 --grid embedding-dropout=.1,.3 variational-dropout=.1,.3 --hidden-size 128": (
        MINUTES
    ),
    "nascluster launch cifar10 --data DIR --early-stop curve": YEARS,
    "nascluster launch digits --local --optimizer adam --learning-rate 0.002 --schedule cosine": MINUTES,
    "nascluster launch cifar10 --data DIR --learning-rate 0.025 --schedule cosine --clip-norm 5 --cutout 16": YEARS,
    "python -m child_trainer best.json --task digits --optimizer adam --learning-rate 0.002 --schedule cosine": (
        PLACEHOLDER
    ),
    "python -m child_trainer best.json --save-weights best.safetensors": PLACEHOLDER,
    "python -m child_trainer best.json --from best.safetensors --learning-rate 0.01 --schedule cosine": PLACEHOLDER,
    "nascluster launch text-rnn --task text-folder --data books --max-vocabulary 10000": OWN_TEXT,
    "nascluster launch enas-rnn --task text-folder --data books": OWN_TEXT,
    "nascluster launch synthetic --task table-file --data table.csv --space nasbench201": OWN_TABLE,
    "nascluster evaluate best.json --task table-file --data table.csv": OWN_TABLE,
    "nascluster launch digits --task image-folder --data DIR": OWN_IMAGES,
    "nascluster launch digits --task image-folder --data pets --resize-to 64": OWN_IMAGES,
    "nascluster launch enas-macro-digits --task image-folder --data pets --resize-to 64 --greyscale": OWN_IMAGES,
    "python -m child_trainer ARCHITECTURE.json --from FILE": WEIGHTS,
    "nascluster export NAME": WEIGHTS,
    "nascluster export NAME 17 --format onnx --out flowers.onnx": WEIGHTS,
    "nascluster export NAME --format safetensors": WEIGHTS,
    "nascluster export NAME --weights best.safetensors": WEIGHTS,
    "nascluster launch digits --searcher evolution --warm-start NAME --top 5": SAME_SPACE,
    "nascluster launch digits --searcher bayesian --start-with best.json": SAME_SPACE,
    "nascluster launch digits --from-run demo --top 3 --epochs 30 --schedule cosine": MINUTES,
    "nascluster launch darts-cifar10 --data DIR --from-run NAME --top 5 --network final --num-cells 20 --filters 36"
    " --epochs 600 --batch-size 96 --learning-rate 0.025 --weight-decay 0.0003 --schedule cosine --clip-norm 5"
    " --cutout 16 --drop-path --path-keep 0.8 --auxiliary --auxiliary-weight 0.4": YEARS,
    "nascluster launch synthetic --local --name demo --seed 1": GOES_ON,
    "nascluster replay demo --until 120 --then searcher.entropy-bonus=0.02": GOES_ON,
    "nascluster best demo-then": GOES_ON,
    "nascluster finish demo": MINUTES,
    "nascluster finish demo --top 3 --seeds 5 --epochs 60": FINISHED,
    "nascluster finish demo --top 2 --grid learning-rate=.2,.1,.05 weight-decay=5e-5,1e-4": FINISHED,
    "nascluster launch digits --name demo": MINUTES,
    "nascluster launch digits": MINUTES,
    "nascluster launch digits --name longer": TERMINALS,
    "nascluster stop longer": TERMINALS,
    "nascluster resume longer": TERMINALS,
    "nascluster stop demo": TERMINALS,
    "nascluster stop NAME": TERMINALS,
    "nascluster remove demo": ASKS,
    "nascluster launch digits --callback tensorboard": MINUTES,
    "nascluster launch digits --callback best:Best": MINUTES,
    "nascluster launch digits --searcher my_search.py:HillClimber": MINUTES,
    "nascluster launch fashion-mnist --data DIR --replicas 4 --shards 4 --children 4 --max-children 64": MINUTES,
    "nascluster launch cifar10 --data DIR --epochs 2 --train-fraction 0.02 --max-children 8": MINUTES,
    "nascluster launch text-rnn": MINUTES,
    "nascluster launch synthetic --child-seconds 0.2": MINUTES,
    "nascluster launch rehearsal": MINUTES,
    "nascluster launch nasbench201 --data DIR --searcher reinforce": MINUTES,
    "nascluster launch nasbench201 --data DIR": MINUTES,
    "nascluster launch synthetic --child-faults crashed=0.1,hang=0.05,out_of_memory=0.1,diverged=0.1": (
        "has children that hang until somebody ends them; tests/cluster/runners/test_failing_children.py has them"
    ),
    "nascluster launch digits --metrics-port 8090": PORT,
    # comparisons and simulations of minutes
    "nascluster compare reinforce evolution --recipe nasbench201 --data DIR --seeds 30 --budget 1000": MINUTES,
    "nascluster compare reinforce:controller-learning-rate=0.04,entropy-bonus=0.02 evolution:population=10,tournament=3"
    " --recipe nasbench201 --data DIR --seeds 30 --budget 12000s": MINUTES,
    "nascluster compare my_search.py:HillClimber evolution --recipe nasbench201 --data DIR --seeds 30 --budget 1000": (
        MINUTES
    ),
    "nascluster compare reinforce random evolution --recipe nasbench201 --data DIR --seeds 30 --budget 12000s": MINUTES,
    "nascluster compare reinforce reinforce:entropy-bonus=0.01 --recipe synthetic --budget 500": MINUTES,
    "nascluster compare --all --recipe nasbench201 --data DIR --seeds 30 --budget 12000s": MINUTES,
    "nascluster compare evolution --recipe nasbench201 --data DIR --objective latency=min --latency-device pixel3"
    " --replicas 1 --seed 1 --seeds 10 --budget 1000": MINUTES,
    "nascluster compare evolution reinforce:target=latency=5ms --recipe nasbench201 --data DIR --objective latency=min"
    " --latency-device pixel3 --budget 1000": MINUTES,
    "nascluster simulate zoph2017-cifar10 --child-seconds lognormal:3600:0.5 --preempt 0.05/h": MINUTES,
    "nascluster simulate zoph2017-cifar10 --child-seconds lognormal:3600:0.5 --preempt 0.05/h --shard-mtbf 200h"
    " --cost 2.5": MINUTES,
    "nascluster simulate zoph2017-cifar10 --workers 800 --child-seconds lognormal:3600:0.5 --preempt 0.05/h"
    " --shard-mtbf 200h": MINUTES,
    "nascluster simulate nasbench201 --data DIR --replicas 20 --workers 40 --json": MINUTES,
    "nascluster simulate darts-cifar10 --workers 100 --children 100 --steps-per-child 4 --search-epochs 5"
    " --steps-per-epoch 3900 --max-children 4880 --step-seconds 0.5s --child-seconds constant:30 --weights-shards 8"
    " --as-is": MINUTES,
    "nascluster simulate enas-macro-cifar10 --workers 100 --replicas 10 --children 10 --steps-per-child 4"
    " --search-epochs 5 --max-children 5540 --step-seconds 0.1s --child-seconds constant:0.2 --as-is": MINUTES,
    "nascluster correlation NAME --data DIR": SUPERNET,
    "nascluster correlation NAME --children 60 --epochs 10": SUPERNET,
    "nascluster correlation NAME --data DIR --children 1000": SUPERNET,
    "nascluster correlation NAME --json": SUPERNET,
    "nascluster survey digits": NIGHT,
    "nascluster survey digits --budget 30s --seeds 3 --processes 1": NIGHT,
    "nascluster survey digits --budget 2h --systems nas enas-macro darts": NIGHT,
    "nascluster survey fashion-mnist --data DIR": NIGHT,
    # services
    "MLFLOW_TRACKING_URI=http://... nascluster launch digits --callback mlflow": CLOUD,
    "nascluster resume NAME --storage-path s3://bucket/prefix": CLOUD,
    "nascluster resume NAME --storage-path URL": CLOUD,
    "nascluster logs NAME 17 --storage-path URL": CLOUD,
    "ray job submit --working-dir . -- nascluster launch ...": CLOUD,
    "ray start --port=6379": CLOUD,
    "nascluster report NAME --watch": SERVES,
    "tensorboard --logdir ~/nascluster_runs": SERVES,
    # forms
    "python -m child_trainer": PLACEHOLDER,
    "nascluster launch RECIPE": PLACEHOLDER,
    "nascluster simulate RECIPE": PLACEHOLDER,
    "nascluster launch nasbench201 --local": PLACEHOLDER,
    "nascluster searchers NAME": PLACEHOLDER,
    "python -m child_trainer CELL.json --task text": PLACEHOLDER,
}
