#!/usr/bin/env bash
# A SLURM of two nodes on this machine over loopback, for tests: no root, no munge, no change of the system.
#
#   slurm.sh start DIR PORT    then: export SLURM_CONF=DIR/slurm.conf; it takes PORT to PORT + 2
#   slurm.sh stop DIR
#
# Each node says that it has 8 cores and 4 GPUs, on which nothing can compute. Needs slurmctld, slurmd and the client
# commands (Debian: slurm-wlm).
set -euo pipefail
d=$(mkdir -p "$2" && cd "$2" && pwd)
export SLURM_CONF=$d/slurm.conf
if [ "$1" = stop ]; then
  scancel --user "$(id -un)" || true
  for file in "$d"/slurmd.*.pid "$d"/slurmctld.pid; do [ -f "$file" ] && kill "$(cat "$file")"; done
  exit 0
fi
h=$(hostname -s)
mkdir -p "$d/state" "$d/spool" "$d/log"
for file in null zero full random; do echo "Name=gpu File=/dev/$file"; done >"$d/gres.conf"
cat >"$SLURM_CONF" <<C
ClusterName=test
SlurmctldHost=$h(127.0.0.1)
SlurmctldPort=$3
AuthType=auth/none
CredType=cred/none
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
StateSaveLocation=$d/state
SlurmdSpoolDir=$d/spool/%n
SlurmctldPidFile=$d/slurmctld.pid
SlurmdPidFile=$d/slurmd.%n.pid
SlurmctldLogFile=$d/log/slurmctld.log
SlurmdLogFile=$d/log/slurmd.%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
MpiDefault=none
ReturnToService=2
JobRequeue=1
NodeName=n1 NodeHostname=$h NodeAddr=127.0.0.1 Port=$(($3 + 1)) CPUs=8 RealMemory=1000 Gres=gpu:4 State=UNKNOWN
NodeName=n2 NodeHostname=$h NodeAddr=127.0.0.1 Port=$(($3 + 2)) CPUs=8 RealMemory=1000 Gres=gpu:4 State=UNKNOWN
PartitionName=all Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES
C
setsid slurmctld
for node in n1 n2; do setsid slurmd -N "$node"; done
for _ in $(seq 120); do
  if [ "$(sinfo -h -N -t idle 2>/dev/null | wc -l)" -ge 2 ]; then exit 0; fi
  sleep 0.5
done
sinfo || true
tail -n 20 "$d"/log/*.log
exit 1
