# A SLURM cluster of two nodes on this machine, for run.sh: everything it writes lies below $WORK, and stop_cluster ends it.

# What is missing for a cluster here, or nothing.
cluster_lacks() {
  local tool
  [ "$(id -u)" = 0 ] || { echo "it needs root"; return; }
  for tool in munged mungekey slurmctld slurmd sbatch; do
    command -v "$tool" >/dev/null || { echo "$tool is not installed (apt-get install slurm-wlm munge)"; return; }
  done
}

free_ports() {
  python3 - "$1" <<'PY'
import socket, sys
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(each.getsockname()[1] for each in sockets))
PY
}

start_cluster() {
  local host ctld n1 n2 folder
  host=$(hostname -s)
  read -r ctld n1 n2 < <(free_ports 3)
  for folder in munge state spool log; do mkdir -p "$WORK/$folder"; done
  chmod 755 "$WORK"
  export SLURM_CONF=$WORK/slurm.conf
  # cred_expire is also how long a requeued job waits (120 s by default), KillWait the time between SIGTERM and SIGKILL.
  cat > "$SLURM_CONF" <<CONF
ClusterName=mmood
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$ctld
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$WORK/munge/socket,cred_expire=5
StateSaveLocation=$WORK/state
SlurmdSpoolDir=$WORK/spool/%n
SlurmctldPidFile=$WORK/log/slurmctld.pid
SlurmdPidFile=$WORK/log/%n.pid
SlurmctldLogFile=$WORK/log/slurmctld.log
SlurmdLogFile=$WORK/log/%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,batch_sched_delay=0
SlurmdParameters=config_overrides
GresTypes=gpu
KillWait=5
ReturnToService=2
JobRequeue=1
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$n1 CPUs=16 Gres=gpu:8 State=UNKNOWN
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$n2 CPUs=16 Gres=gpu:8 State=UNKNOWN
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
CONF
  # GPUs in name only: what counts is that the job files' requests for them are understood.
  touch "$WORK"/gpu{0..7}
  printf 'NodeName=n[1-2] Name=gpu File=%s/gpu[0-7]\n' "$WORK" > "$WORK/gres.conf"
  printf 'CgroupAutomount=no\n' > "$WORK/cgroup.conf"
  mungekey --create --keyfile="$WORK/munge/key"
  munged --force --key-file="$WORK/munge/key" --socket="$WORK/munge/socket" --pid-file="$WORK/munge/pid" \
    --log-file="$WORK/munge/log" --seed-file="$WORK/munge/seed" 2>"$WORK/munge/start"
  slurmctld -i
  slurmd -N n1
  slurmd -N n2
  for _ in $(seq 60); do
    [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ] && return 0
    sleep 0.5
  done
  tail -n 20 "$WORK"/log/*.log >&2
  return 1
}

# Ids of the processes that this cluster started, jobs included: their environment names its configuration.
cluster_processes() {
  local folder
  for folder in /proc/[0-9]*; do
    if tr '\0' '\n' 2>/dev/null < "$folder/environ" | grep -qx "SLURM_CONF=$SLURM_CONF"; then
      echo "${folder#/proc/}"
    fi
  done 2>/dev/null
}

# Cancels the jobs, then ends the daemons; what is still there after a few seconds is killed.
stop_cluster() {
  local file left
  squeue --noheader --format=%i 2>/dev/null | xargs -r scancel --signal=KILL --full 2>/dev/null || true
  for _ in $(seq 20); do
    [ -z "$(squeue --noheader 2>/dev/null)" ] && break
    sleep 0.5
  done
  for file in "$WORK"/log/*.pid "$WORK"/munge/pid; do
    if [ -s "$file" ]; then kill "$(cat "$file")" 2>/dev/null || true; fi
  done
  sleep 1
  left=$(cluster_processes)
  # shellcheck disable=SC2086
  [ -z "$left" ] || kill -KILL $left 2>/dev/null || true
}
