"""Updates: how a step of training changes the weights. A step is one update of the decoder."""

from textvae.training.updates.aggressive import encoder_updates
from textvae.training.updates.joint import JointUpdate
from textvae.training.updates.refined import RefinedUpdate
from textvae.training.updates.update import StepInput, Update, average, optimizer_for

__all__ = ["JointUpdate", "RefinedUpdate", "StepInput", "Update", "average", "encoder_updates", "optimizer_for"]
