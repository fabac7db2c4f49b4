"""What MLflow runs to load a medgan model: its `pyfunc` copies this file into each one."""

from mlflow.models import set_model

from medgan.tracking.pyfunc import ServedModel

set_model(ServedModel())
