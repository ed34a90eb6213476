"""On what a sweep runs."""

from dataclasses import dataclass

from ablate_kit.errors import UserError
from ablate_kit.models.inference.device import check_device
from ablate_kit.sweeps.backends.ray_backend import import_ray


@dataclass(frozen=True)
class Placement:
    """On what a sweep runs: this process, a process per device, or the workers of a cluster."""

    devices: tuple[str, ...] = ("cpu",)
    ray: str = ""  # address of a cluster
    trust_remote_code: bool = False

    @property
    def here(self) -> bool:
        return not self.ray and len(self.devices) == 1

    def check(self) -> None:
        """Raises ``UserError`` for what is not there."""
        if self.ray and len(self.devices) > 1:
            raise UserError("give one device with --ray: the cluster has as many as it has")
        if self.ray and self.devices[0].startswith("cuda:"):
            raise UserError(f"give cuda with --ray, not {self.devices[0]}: each worker has one GPU")
        for device in self.devices:
            try:
                check_device(device)
            except UserError as error:
                if not self.ray:
                    raise
                raise UserError(
                    f"{error}; the command itself needs it with --ray, too, for what all variants "
                    "share: start it on a node that has one"
                ) from None
        if self.ray:
            import_ray()


HERE = Placement()
