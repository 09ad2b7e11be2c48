#!/bin/sh
# Stands in for LiteRT's benchmark_model, which runs on no machine of the tests: it computes nothing. It takes the flags
# of the documented program and prints the lines that its documentation and its source show.
# What it is to do otherwise stands in a file, as assignments.
mean_us=5000 refuses= garbled= hangs= lacks=
[ -f /data/local/tmp/tool.says ] && . /data/local/tmp/tool.says
usage() {
  echo "ERROR: usage: $0 <flags>"
  echo "Flags:"
  for flag in num_runs=50 min_secs=1 max_secs=150 num_threads=-1 warmup_runs=1 warmup_min_secs=0.5 graph= \
    input_layer= input_layer_shape= input_layer_value_files= output_filepath= report_peak_memory_footprint=false \
    use_xnnpack=false use_gpu=false require_full_delegation=false gpu_precision_loss_allowed=true gpu_backend=; do
    case " $lacks " in *" ${flag%%=*} "*) ;; *) printf '\t--%s\tstring\toptional\tas documented\n' "$flag" ;; esac
  done
  echo "ERROR: Benchmarking failed."
  exit 1
}
runs=50 min_secs=1 warmup_secs=0.5 graph= files= outputs= gpu=false memory=false
for word in "$@"; do
  value=${word#*=}
  case $word in
    --help) usage ;;
    --num_runs=*) runs=$value ;;
    --min_secs=*) min_secs=$value ;;
    --graph=*) graph=$value ;;
    --input_layer_value_files=*) files=${value#*:} ;;
    --output_filepath=*) outputs=$value ;;
    --use_gpu=*) gpu=$value ;;
    --report_peak_memory_footprint=*) memory=$value ;;
    --max_secs=*|--num_threads=*|--warmup_*|--input_layer*|--use_xnnpack=*|--require_*|--gpu_*) ;;
    *) echo "WARN: Unconsumed cmdline flags: $word" ;;
  esac
done
echo "INFO: STARTING!"
echo "INFO: Graph: [$graph]"
[ -f "$graph" ] || { echo "ERROR: Failed to load model $graph"; echo "ERROR: Benchmarking failed."; exit 1; }
echo "INFO: Loaded model $graph"
if [ "$gpu" = true ] && [ -n "$refuses" ]; then
  echo "INFO: Created TensorFlow Lite delegate for GPU."
  echo "ERROR: Following operations are not supported by GPU delegate:"
  echo "RESHAPE: $refuses"
  echo "45 operations will run on the GPU, and the remaining 600 operations will run on the CPU."
  echo "ERROR: Disallowed CPU fallback detected."
  echo "ERROR: Benchmarking failed."
  exit 1
fi
[ "$gpu" = true ] &&
  echo "INFO: Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate."
# In its own place: the program is one process.
[ -n "$hangs" ] && exec sleep "$hangs"
echo "INFO: The input model file size (MB): 5.1"
[ -n "$garbled" ] && { echo "INFO: $garbled"; exit 0; }
echo "INFO: Initialized session in 119.515ms."
phase() {
  echo "INFO: Running benchmark for at least $1 iterations and at least $2 seconds but terminate if exceeding 600 seconds."
  if [ "$1" = 1 ]; then echo "INFO: count=1 curr=$mean_us"; else
    echo "INFO: count=$1 first=$((mean_us + 10)) curr=$mean_us min=$((mean_us - 5)) max=$((mean_us + 10)) avg=$mean_us std=3 p5=$((mean_us - 5)) median=$mean_us p95=$((mean_us + 10))"
  fi
  echo
}
phase 1 "$warmup_secs"
phase "$runs" "$min_secs"
echo "INFO: Inference timings in us: Init: 119515, First inference: $mean_us, Warmup (avg): $mean_us, Inference (avg): $mean_us"
[ "$memory" = true ] && echo "INFO: Overall peak memory footprint (MB) via periodic monitoring: 26.6797"
# What it has computed is the image itself.
[ -n "$outputs" ] && cat "$files" >"$outputs"
exit 0
