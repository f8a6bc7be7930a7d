#!/bin/bash
# Ten people drawn by a model of each family on one GPU, and a report that can be sent back: versions, GPU, seconds, memory, identity
# figures and contact sheets of the images, without a photo or a name of anybody. From the checkout's root, with tenth installed:
#
#   recipes/first-gpu.sh PEOPLE OUT [MODEL...]
#
# PEOPLE: a folder of photos for each person, five or more of each, of people who agreed to it; the first ten are taken. OUT: a new
# folder; OUT/report is what to send. MODEL: names of `tenth models`, by default all that are free to use; owner/name adds one whose
# terms you accepted (set HF_TOKEN). Downloads take up to 60 GB for a model, some 120 GB for all of these. A model that fails is recorded, and the next one follows.
# z-image takes no photos: a LoRA is trained for each of the ten people, which takes by far the longest; name the others to leave it out.
# STEPS=N and IMAGES=N: other numbers of steps, and of images of each person, than the models' own and 2.
set -euo pipefail
people=${1:?PEOPLE} out=${2:?OUT}
shift 2
models=("$@")
[ $# -gt 0 ] || models=(sd15 sdxl flux2-klein-4b flux2-klein-base-4b z-image qwen-image-edit)
python=${PYTHON:-python3} # the one with tenth: PYTHON=PATH names another
report=$out/report drawn=0
if [ -e "$out" ]; then
    echo "$out is there already; a new folder is needed. Name another." >&2
    exit 1
fi

"$python" benchmarks/first_gpu.py split "$people" "$out/photos" # references and held-out photos of each person
mkdir "$report"
for model in "${models[@]}"; do
    folder=$out/${model//\//--}
    mkdir "$folder"
    echo "$model"
    "$python" -m tenth.cli.main models download "$model" >"$folder/download.txt" 2>&1 &&
        "$python" benchmarks/first_gpu.py draw "$model" "$out/photos/references" "$folder" 2>"$folder/draw.txt" &&
        "$python" -m tenth.cli.main evaluate "$folder/images" --held-out "$out/photos/held-out" --references "$out/photos/references" \
            --json >"$folder/evaluation.json" 2>"$folder/evaluate.txt" && drawn=1 ||
        tail -n 3 "$folder"/*.txt
done
"$python" benchmarks/first_gpu.py report "$out" "$report"
[ $drawn = 1 ] || { echo "No model drew; the files in $out say why." >&2; exit 1; }
