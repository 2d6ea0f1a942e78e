#!/bin/bash
# What only a GPU can tell, in order of worth: one command of at most nine minutes, continued by calling it again.
#
#   bash benchmarks/gpu.sh                     on a machine with one GPU, from anywhere in a checkout
#   REHEARSE=1 bash benchmarks/gpu.sh          on a CPU, tiny: that every part runs
#
# It needs Python with this package and its extras `dev` and `benchmark` (torch built for CUDA, vit-pytorch, kornia,
# timm, pytest): where there is no network, wheels of them (`pip download`) and of torch, which is the larger part.
# Part i needs CIFAR-10 in $DATA/cifar10 (as downloaded, or train/CLASS/*.png and test/CLASS/*.png); where single files
# are limited in size, bring its archive in two parts and `cat` them together. All other parts make their own data.
#
# Every part is ended when its time is up and leaves $OUT/PART.json with what it printed last, its exit code and its
# seconds; a part that ended well is not run again. Tables go to $OUT, too: copy those of a GPU to benchmarks/results.
#
#   PYTHON   of which Python (default python)          SECONDS_LEFT  for this call (default 530)
#   OUT      for results (default runs/gpu)            DATA          see above (default ~/.cache/cct_lightning)

# What is given is meant from here.
PYTHON=$(command -v "${PYTHON:-python}") && PYTHON=$(cd "$(dirname "$PYTHON")" && pwd)/$(basename "$PYTHON") || exit 2
[ -n "$OUT" ] || OUT=$(dirname "$0")/../runs/gpu
OUT=$(mkdir -p "$OUT" && cd "$OUT" && pwd) || exit 2
cd "$(dirname "$0")/.." || exit 2
DATA=${DATA:-$HOME/.cache/cct_lightning}
END=$((SECONDS + ${SECONDS_LEFT:-530}))
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} CCT_BENCHMARK_RESULTS=$OUT WANDB_MODE=disabled

device=cuda accelerator=gpu tiny=() sizes="128 512 1024" ways="false true" arch=cct_7_3x1 repeats=5
if [ -n "$REHEARSE" ]; then
    device=cpu accelerator=cpu tiny=(--tiny) sizes=2 ways=false arch=cct_2_3x2 repeats=1
fi

# part NAME CAP COMMAND...: run it in CAP seconds, or in what is left, unless it has ended well before.
part() {
    local name=$1 cap=$2 left=$((END - SECONDS)) began=$SECONDS code
    shift 2
    if grep -qs '"code": 0,' "$OUT/$name.json"; then
        [ -n "$again" ] || echo "$name: done"
        return
    fi
    case " $(echo $tried) " in *" $name.json "*) [ -n "$again" ] || return ;; *) [ -z "$again" ] || return ;; esac
    [ -n "$REHEARSE" ] && cap=$((cap * 5))  # whatever the machine
    [ "$left" -lt 10 ] && { echo "$name: no time left, call again"; return; }
    [ "$cap" -gt "$left" ] && cap=$left
    timeout --signal=TERM --kill-after=10 "$cap" "$@" > "$OUT/$name.log" 2>&1
    code=$?
    "$PYTHON" - "$OUT/$name" "$code" "$((SECONDS - began))" "$@" <<'END_OF_PYTHON'
import json, shlex, sys
path, code, seconds, *command = sys.argv[1:]
lines = open(path + ".log", errors="replace").read().splitlines()
last = next((json.loads(line) for line in reversed(lines) if line.startswith("{") and line.endswith("}")), None)
report = {"code": int(code), "seconds": int(seconds), "command": shlex.join(command), "result": last, "tail": lines[-15:]}
with open(path + ".json", "w") as file:
    json.dump(report, file, indent=2)
END_OF_PYTHON
    echo "$name: exit code $code after $((SECONDS - began)) s"
}

fit() {
    "$PYTHON" -m cct_lightning fit --config digits --trainer.accelerator "$accelerator" --trainer.devices 1 \
        --model.optim.optimizer muon --model.optim.warmup_epochs 0.5 --model.ema_decay 0.99 --run_dir "$OUT/digits" \
        ${REHEARSE:+--trainer.limit_train_batches 2 --trainer.limit_val_batches 1} "$@"
}
twice() { rm -rf "$OUT/digits" && fit --trainer.max_epochs 2 && fit --trainer.max_epochs 4; }
step() {
    "$PYTHON" -m cct_lightning benchmark --arch "$arch" --batch_size "$1" --compile "$2" --device $device \
        --peer vit-pytorch --repeats "$repeats" --json "$OUT/step_$1_$2.json"
}
overhead() {
    [ -d "$OUT/tree" ] || "$PYTHON" benchmarks/gpu_parts.py tree "$OUT/tree" || return
    "$PYTHON" benchmarks/fit_overhead.py --root "$OUT/tree" --device $device --arch "$arch" --repeats 1 "$@"
}
export -f fit twice step overhead
export OUT PYTHON REHEARSE device accelerator arch repeats

gpu_tests=(-m gpu) fsdp=(-m gpu) load=(--batch 512 --steps 3) batch=(--batch 1024 --compile)
if [ -n "$REHEARSE" ]; then
    gpu_tests=(tests/data/test_transform.py -k indices) fsdp=(--collect-only) load=(--batch 8 --steps 2)
    batch=(--batch 8 --repeats 1)
fi

# Those that failed or ran out of time before come last.
parts() {
    part a_tests 120 "$PYTHON" -m pytest -q -p no:cacheprovider "${gpu_tests[@]}" --deselect tests/survival/test_fsdp.py
    part a_pixels 90 "$PYTHON" benchmarks/gpu_parts.py pixels --device $device "${tiny[@]}"
    part b_digits 60 env CUDA_LAUNCH_BLOCKING=1 bash -c twice
    part c_fsdp 45 "$PYTHON" -m pytest -q -p no:cacheprovider "${fsdp[@]}" tests/survival/test_fsdp.py
    part d_waits 40 "$PYTHON" benchmarks/gpu_parts.py waits --device $device "${tiny[@]}"
    for size in $sizes; do
        for how in $ways; do
            part "e_step_${size}_$how" 60 bash -c 'step "$@"' step "$size" "$how"
        done
    done
    part f_augment 90 "$PYTHON" benchmarks/augment.py --device $device "${batch[@]}"
    part g_attention 30 "$PYTHON" benchmarks/gpu_parts.py attention --device $device "${tiny[@]}"
    part h_busy 60 "$PYTHON" benchmarks/gpu_parts.py busy --device $device "${tiny[@]}"
    part h_overhead 120 bash -c 'overhead "$@"' overhead "${load[@]}"
}
tried=$(cd "$OUT" && ls -- *.json 2>/dev/null)
parts
again=yes
parts
part a_tests 120 "$PYTHON" -m pytest -q -p no:cacheprovider "${gpu_tests[@]}" --deselect tests/survival/test_fsdp.py
part a_pixels 90 "$PYTHON" benchmarks/gpu_parts.py pixels --device $device "${tiny[@]}"
part b_digits 60 env CUDA_LAUNCH_BLOCKING=1 bash -c twice
part c_fsdp 45 "$PYTHON" -m pytest -q -p no:cacheprovider "${fsdp[@]}" tests/survival/test_fsdp.py
part d_waits 40 "$PYTHON" benchmarks/gpu_parts.py waits --device $device "${tiny[@]}"
part e_steps 150 bash -c steps
part f_augment 90 "$PYTHON" benchmarks/augment.py --device $device "${batch[@]}"
part g_attention 30 "$PYTHON" benchmarks/gpu_parts.py attention --device $device "${tiny[@]}"
part h_busy 60 "$PYTHON" benchmarks/gpu_parts.py busy --device $device "${tiny[@]}"
part h_overhead 120 bash -c 'overhead "$@"' overhead "${load[@]}"
left=$((END - SECONDS - 20))
if [ -n "$REHEARSE" ]; then
    part i_cifar10 60 "$PYTHON" benchmarks/reproduce.py --rows cifar10_fast --minutes 0.01 --work "$OUT/ladder" --root "$DATA"
elif [ $left -gt 30 ]; then
    # Every call is a sitting: the run saves itself in time, and goes on in the next.
    part "i_cifar10_$(date +%s)" "$((left + 15))" "$PYTHON" benchmarks/reproduce.py --rows cifar10_fast \
        --minutes "$(awk "BEGIN { print $left / 60 }")" --work "$OUT/ladder" --root "$DATA" --state "$OUT/ladder.tgz"
fi
