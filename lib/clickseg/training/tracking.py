"""MLflow, where it is installed and asked for: what TensorBoard is told of a training, it is told.

It does not come with the package. All trainings within ``tracked`` log to one run of it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ignite.handlers import MLflowLogger

from clickseg.config import ConfigError
from clickseg.training.processes import is_first


@dataclass(frozen=True)
class Tracking:
    """Where MLflow is told: ``uri`` is a folder as ``file:`` or a server, ``experiment`` a name."""

    uri: str
    experiment: str

    def check(self) -> None:
        """See to it that MLflow is there, before any work is done.

        Raises:
            ConfigError: if it is not installed, or not for the libraries that are here.
        """
        try:
            importlib.import_module("mlflow")
        except ModuleNotFoundError as error:
            raise ConfigError(
                "tracking by mlflow was asked for, and it is not installed here: "
                "pip install mlflow-skinny, or go without"
            ) from error
        except ImportError as error:
            raise ConfigError(f"mlflow was asked for and cannot be loaded: {error}") from error


@contextmanager
def tracked(tracking: Tracking | None, run_name: str, **parameters: Any) -> Iterator[None]:
    """Open a run of MLflow in the first process; it ends as failed where an error comes through.

    Args:
        tracking: None does nothing.
        run_name: how the run is called.
        parameters: what MLflow shows of it besides.

    Raises:
        ConfigError: if MLflow is not installed, or takes no run.
    """
    if tracking is None or not is_first():
        yield
        return
    tracking.check()
    mlflow = importlib.import_module("mlflow")
    try:
        mlflow.set_tracking_uri(tracking.uri)
        mlflow.set_experiment(tracking.experiment)
        run = mlflow.start_run(run_name=run_name)
        mlflow.log_params(parameters)
    except mlflow.exceptions.MlflowException as error:
        raise ConfigError(f"mlflow takes no run at {tracking.uri}: {error}") from error
    with run:
        yield


def mlflow_logger() -> MLflowLogger | None:
    """Return what logs to the run that is open, None where none is."""
    mlflow = sys.modules.get("mlflow")
    return MLflowLogger() if mlflow is not None and mlflow.active_run() is not None else None
