"""Run by an interpreter that has MLflow: how many traces a second it logs synchronously, each with what a decision consists of.

python mlflow_tracing.py URL COUNT
"""

import os
import sys
import time

os.environ["MLFLOW_ENABLE_ASYNC_TRACE_LOGGING"] = "false"

import mlflow  # it reads its environment when it is imported

url, count = sys.argv[1], int(sys.argv[2])
mlflow.set_tracking_uri(url)
mlflow.set_experiment("inspection")
scores = dict.fromkeys(("crack", "dent", "discoloration", "good", "missing_component", "scratch"), "0.125")


def trace(number: int) -> None:
    with mlflow.start_span("inspection") as span:
        span.set_inputs({"image": f"{number:064x}", "serial": f"SN-{number:08}", "station": "press-4"})
        span.set_outputs({"verdict": "pass", "predicted": "good", "scores": scores, "defect_score": "0.125"})


for number in range(10):
    trace(number)
began = time.perf_counter()
for number in range(count):
    trace(number)
print(count / (time.perf_counter() - began))
