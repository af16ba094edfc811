"""A batch on a Slurm cluster: dask's own deployer starts workers as Slurm jobs, tat restore uses them.

pip install 'tatcli[cluster]' dask-jobqueue, in an environment that the nodes see. Jobs come and go between --least and
--most; scans of a job that ends, or is preempted, go to another one. With --gpus, every job has one GPU.
Run on Slurm 22.05 with dask-jobqueue 0.9 and dask 2026.8, jobs cancelled in between; not with GPUs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys


def main() -> int:
    """Start the cluster, run tat restore on it, end the cluster."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queue", help="Slurm partition")
    parser.add_argument("--least", type=int, default=1, help="jobs")
    parser.add_argument("--most", type=int, default=16, help="jobs")
    parser.add_argument("--cores", type=int, default=4, help="of each job")
    parser.add_argument("--memory", default="8GB", help="of each job")
    parser.add_argument("--walltime", default="04:00:00", help="of each job")
    parser.add_argument("--gpus", action="store_true", help="one for each job")
    parser.add_argument("tat", nargs=argparse.REMAINDER, help="restore INPUT -o OUTPUT --task TASK ...")
    arguments = parser.parse_args()

    from dask_jobqueue import SLURMCluster

    # Two threads let a worker read the next scan while it restores one; the network has processes of its own.
    worker = ["--nthreads", "4" if arguments.gpus else "2"]
    with SLURMCluster(
        queue=arguments.queue,
        cores=arguments.cores,
        processes=1,
        memory=arguments.memory,
        walltime=arguments.walltime,
        job_extra_directives=["--gres=gpu:1"] if arguments.gpus else [],
        job_script_prologue=[f"export OMP_NUM_THREADS={arguments.cores}"],
        worker_extra_args=[*worker, *(["--resources", "GPU=1"] if arguments.gpus else [])],
    ) as cluster:
        cluster.adapt(minimum_jobs=arguments.least, maximum_jobs=arguments.most)
        device = ["--device", "cuda"] if arguments.gpus else []
        command = ["tat", *arguments.tat, "--cluster", cluster.scheduler_address, *device]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
