#!/bin/bash
# Minutes of one large GPU for the pocket model, on a machine that has torch, transformers, accelerate and pydantic, and no photos,
# dlib, diffusers or network. What goes there is this checkout and one folder, 64 MiB in all; what comes back are parts of
# at most 16 MiB. From the checkout's root:
#
#   recipes/gpu-minutes.sh pack recipes/pocket-base.toml gpu [RUN]    # here: RUN's newest checkpoint, else the recipe's start
#   recipes/gpu-minutes.sh try gpu OUT                                # here, on the CPU: a few steps, as below; OUT/models shows that all works
#   recipes/gpu-minutes.sh spend gpu OUT [SECONDS] [BATCH] [RATE]     # there: trains, then writes OUT/part-*
#   recipes/gpu-minutes.sh join OUT MODELS                            # here: MODELS/average and MODELS/average-N, whole models
#
# `pack` says how much there is to bring. Where that is too much: the package's own weights are not needed there but for vae/, so
# rm src/tenth/models/pocket/model/{unet,text_encoder,ip-adapter*}/*.safetensors before, and git checkout src/tenth/models/pocket/model after.
set -euo pipefail
what=${1:?pack, try, spend or join}
export PYTHONPATH=$PWD/src${PYTHONPATH:+:$PYTHONPATH}
python=${PYTHON:-python3} # the one with torch: PYTHON=PATH names another

case $what in
pack)
    recipe=$2 folder=$3 run=${4:-}
    mkdir -p "$folder"
    "$python" - "$recipe" "$folder" "$run" <<'PYTHON'
import shutil
import sys
import zipfile
from pathlib import Path

from tenth.training.pocket.packed_dataset import pack, train_for_seconds

recipe, folder, run = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
pack(Path(recipe), Path(run) if run else None, folder)
# What spending imports of diffusers, and no more; dlib only by its name.
train_for_seconds(folder, folder / "tried", seconds=0, batch_size=2, learning_rate=1e-9)
shutil.rmtree(folder / "tried")
with zipfile.ZipFile(folder / "site.zip", "w", zipfile.ZIP_DEFLATED) as site:
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] == "diffusers" and file:
            package = Path(file).name == "__init__.py"
            site.write(file, f"{name.replace('.', '/')}{'/__init__' * package}.py")
    site.writestr("dlib.py", '"""Not here: nothing that runs here looks for faces."""\n')
PYTHON
    tree=$(git ls-files -z | xargs -0 du -cb | tail -1 | cut -f1)
    echo "$(($(du -sb "$folder" | cut -f1) / 1048576)) MiB in $folder, $((tree / 1048576)) MiB of the checkout"
    ;;
try)
    folder=$2 out=$3
    CUDA_VISIBLE_DEVICES="" bash "$0" spend "$folder" "$out/parts" 0 2 1e-5
    bash "$0" join "$out/parts" "$out/models"
    ;;
spend)
    folder=$2 out=$3 seconds=${4:-540} batch=${5:-512} rate=${6:-1.2e-3}
    site=$(mktemp -d)
    "$python" -m zipfile -e "$folder/site.zip" "$site"
    mkdir -p "$out"
    PYTHONPATH=$site:$PYTHONPATH "$python" - "$folder" "$site/out" "$seconds" "$batch" "$rate" <<'PYTHON'
import sys
from pathlib import Path

from tenth.training.pocket.packed_dataset import train_for_seconds

folder, output, seconds, batch, rate = sys.argv[1:]
train_for_seconds(Path(folder), Path(output), float(seconds), int(batch), float(rate))
PYTHON
    tar -C "$site/out" -c $(cd "$site/out" && ls average*.safetensors) | split -b 16000000 -d - "$out/part-"
    ls -l "$out"
    rm -rf "$site"
    ;;
join)
    out=$2 models=$3
    mkdir -p "$models"
    cat "$out"/part-* | tar -x -C "$models"
    "$python" - "$models"/average*.safetensors <<'PYTHON'
import sys
from pathlib import Path

from tenth.training.pocket.packed_dataset import unpack

for weights in map(Path, sys.argv[1:]):
    unpack(weights, weights.with_suffix(""))
PYTHON
    ls "$models"
    ;;
*)
    echo "$what is none of pack, try, spend, join" >&2
    exit 1
    ;;
esac
