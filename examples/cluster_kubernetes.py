"""A batch on Kubernetes: dask's operator starts worker pods, tat restore uses them.

pip install 'tatcli[cluster]' dask-kubernetes; the operator has to run in the cluster (helm, see
kubernetes.dask.org). IMAGE holds Python, tatcli[cluster] and the same versions of dask as here. CLAIM is a volume claim
with the scans, mounted at the same path in every pod and where this script runs. The cluster's description was checked
with dask-kubernetes 2026.3; it was not run on a Kubernetes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import uuid


def main() -> int:
    """Start the cluster, run tat restore on it, end the cluster."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", required=True, help="of the pods")
    parser.add_argument("--claim", required=True, help="volume claim with inputs and outputs")
    parser.add_argument("--mount", default="/data", help="where it is mounted")
    parser.add_argument("--workers", type=int, default=8, help="pods")
    parser.add_argument("--cores", type=int, default=4, help="of each pod")
    parser.add_argument("--memory", default="8Gi", help="of each pod")
    parser.add_argument("--gpus", action="store_true", help="one for each pod")
    parser.add_argument("tat", nargs=argparse.REMAINDER, help="restore INPUT -o OUTPUT --task TASK ...")
    arguments = parser.parse_args()

    from dask_kubernetes.operator import KubeCluster, make_cluster_spec

    limits = {"cpu": str(arguments.cores), "memory": arguments.memory}
    command = ["dask", "worker", "--nthreads", "4" if arguments.gpus else "2"]
    if arguments.gpus:
        limits["nvidia.com/gpu"] = "1"
        command += ["--resources", "GPU=1"]
    spec = make_cluster_spec(
        name=f"tat-{uuid.uuid4().hex[:8]}",  # of two runs with one name, the second would get the first's cluster
        image=arguments.image,
        n_workers=arguments.workers,
        resources={"requests": limits, "limits": limits},
        env={"OMP_NUM_THREADS": str(arguments.cores)},
        worker_command=command,
    )
    least = {"cpu": "1", "memory": "2Gi"}  # the scheduler computes nothing, and would hold a GPU
    scheduler = spec["spec"]["scheduler"]["spec"]["containers"][0]
    scheduler["args"] = ["dask", "scheduler", "--host", "0.0.0.0"]  # dask-scheduler, which is the default, is gone
    scheduler["resources"] = {"requests": least, "limits": least}
    pod = spec["spec"]["worker"]["spec"]
    pod["volumes"] = [{"name": "scans", "persistentVolumeClaim": {"claimName": arguments.claim}}]
    pod["containers"][0]["volumeMounts"] = [{"name": "scans", "mountPath": arguments.mount}]
    with KubeCluster(custom_cluster_spec=spec) as cluster:
        device = ["--device", "cuda"] if arguments.gpus else []
        command = ["tat", *arguments.tat, "--cluster", cluster.scheduler_address, *device]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
