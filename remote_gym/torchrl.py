"""Trainer process: `VectorEnv`, remote environments as one batched environment of TorchRL.

TorchRL's own `GymWrapper` takes a `RemoteEnvironment`, and a `RemoteVectorEnv` in an autoreset mode that it knows. This
is that wrapper with what it leaves to its user: the mode, resets and steps of some rows only wherever a mask asks for
them, one transfer to the device for each batch, and a pickle that dials anew in a collector's worker process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from remote_gym import RemoteArgs, RemoteVectorEnv
from remote_gym.arguments import check_settled
from remote_gym.errors import MisuseError

try:
    import torch
    from tensordict import TensorDictBase
    from torchrl.envs import GymWrapper, default_info_dict_reader
except ImportError as missing:
    raise ImportError(f'{__name__} needs TorchRL: pip install "remote-gym-pool[torchrl]" ({missing})') from missing

__all__ = ["VectorEnv"]

_OURS = {
    "autoreset_mode": "TorchRL resets rows itself, with a mask",
    "batch_size": "every step returns all rows",
    "copy": "tensors share the arrays' memory, and may be written to",
}
"""Arguments of `RemoteVectorEnv` that are settled here, and why."""


class VectorEnv(GymWrapper):
    """`num_envs` environments of a server, or of several, as a `torchrl.envs.EnvBase` of batch size ``[num_envs]``.

    With the same seeds and actions its tensordicts are bit for bit those of `GymWrapper` around a `SyncVectorEnv` whose
    autoreset is disabled. It dials when it is made: TorchRL reads the spaces at once. A copy made by `pickle` or
    `deepcopy` dials anew, so it may be given to a collector as it is, or as ``partial(VectorEnv, url, ...)``.

    ``"_reset"`` resets, and ``"_step"`` steps, only the rows where it is True; these masks are what collectors and
    `rollout` use. The other rows keep the observations and flags they had.
    """

    _env: Any

    def __init__(
        self,
        url: str | Sequence[str] | None = None,
        port: int | None = None,
        num_envs: int = 1,
        remote_args: RemoteArgs | Mapping[str, Any] | None = None,
        client_credentials_paths: Any = None,
        render_mode: str | None = None,
        *,
        device: Any = None,
        categorical_action_encoding: bool = False,
        frame_skip: int = 1,
        allow_done_after_reset: bool = False,
        **options: Any,
    ) -> None:
        """Dial, and make specs of the spaces.

        Args:
            url: The first six arguments are those of `RemoteVectorEnv`.
            port: See there.
            num_envs: See there.
            remote_args: See there.
            client_credentials_paths: See there.
            render_mode: See there.
            device: Where tensordicts live. None: in host memory, without a device of their own; as in `GymWrapper`.
            categorical_action_encoding: Discrete actions are indices instead of one-hot vectors.
            frame_skip: How often an action is repeated; rewards are summed. Stops for all once an episode has ended.
            allow_done_after_reset: Whether an environment may be done right after its reset.
            options: Other arguments of `RemoteVectorEnv`, but `autoreset_mode`, `batch_size` and `copy`.

        Raises:
            MisuseError: An argument is wrong; names it.
            ConnectError: A server could not be reached.
        """
        theirs = {name: options.pop(name) for name in [*options] if name.startswith("_torchrl_")}  # of its metaclass
        envs = options.pop("_envs", None)
        check_settled(options, _OURS, __name__)
        if envs is None:
            envs = RemoteVectorEnv(
                url, port, num_envs, remote_args, client_credentials_paths, render_mode,
                autoreset_mode=AutoresetMode.DISABLED, **options,
            )  # fmt: skip
        try:
            super().__init__(
                envs, categorical_action_encoding, device=device, frame_skip=frame_skip,
                allow_done_after_reset=allow_done_after_reset, **theirs,
            )  # fmt: skip
        except BaseException:
            envs.close()
            raise

    @classmethod
    def local(
        cls,
        entrypoint: Any,
        num_envs: int = 1,
        *,
        device: Any = None,
        categorical_action_encoding: bool = False,
        frame_skip: int = 1,
        allow_done_after_reset: bool = False,
        **options: Any,
    ) -> VectorEnv:
        """Make environments whose server is a child of this process; see `RemoteVectorEnv.local`.

        Raises:
            MisuseError: An argument is wrong, or this is a worker itself.
            ConnectError: The server did not start.
        """
        check_settled(options, _OURS, __name__)
        envs = RemoteVectorEnv.local(entrypoint, num_envs, autoreset_mode=AutoresetMode.DISABLED, **options)
        return cls(
            _envs=envs, device=device, categorical_action_encoding=categorical_action_encoding, frame_skip=frame_skip,
            allow_done_after_reset=allow_done_after_reset,
        )  # fmt: skip

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: Any) -> TensorDictBase:
        """Reset the rows of the mask ``"_reset"``, all without one; the rest as for `RemoteVectorEnv.reset`."""
        if tensordict is not None and (mask := tensordict.get("_reset", None)) is not None:
            rows = self._rows(mask)
            if not rows.any():
                return tensordict.exclude("_reset")
            options = kwargs.get("options") or {}
            if not isinstance(options, Mapping):
                raise MisuseError(f"options of a reset with a mask are one dict, for all rows, got {options!r:.80}")
            kwargs["options"] = {**options, "reset_mask": rows}
        with self._on_the_host():
            # Past GymWrapper's own, which takes a mask from host memory only, and for granted.
            result = super(GymWrapper, self)._reset(None, **kwargs)
        return moved(result, self.device)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Step the rows of the mask ``"_step"``, all without one."""
        mask = tensordict.get("_step", None)
        if mask is None or mask.all():
            return self._stepped(tensordict)
        rows, whole = self._rows(mask), self._env
        self._env = _Some(whole, rows)
        try:
            result = self._stepped(tensordict)
        finally:
            self._env = whole
        left = torch.from_numpy(~rows).to(result.device)
        for key, value in result.items(True, True):
            if (before := tensordict.get(key, None)) is not None:
                value[left] = before[left]
        return result

    def _stepped(self, tensordict: TensorDictBase) -> TensorDictBase:
        with self._on_the_host():
            result = super()._step(tensordict)
        for key in self.done_keys:  # TorchRL does so later, but not everywhere
            result.set(key, result.get(key).view(*self.batch_size, 1))
        return moved(result, self.device)

    def _rows(self, mask: torch.Tensor) -> np.ndarray[Any, np.dtype[np.bool_]]:
        return mask.reshape(self.batch_size).cpu().numpy()  # type: ignore[no-any-return]

    @contextmanager
    def _on_the_host(self) -> Iterator[None]:
        """Have GymWrapper leave tensors in host memory, from where it would move them one by one."""
        device = self.__dict__["_device"]
        self.__dict__["_device"] = None
        try:
            yield
        finally:
            self.__dict__["_device"] = device
        for reader in self.info_dict_reader if device is not None else ():
            spec = reader.info_spec if isinstance(reader, default_info_dict_reader) else None
            if spec is not None and spec.device != device:  # made just now, of what was on the host
                reader._info_spec = spec.to(device)

    def __enter__(self) -> VectorEnv:
        """Return self."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close."""
        self.close()


class _Some:
    """What stands in for the environments while only some rows of them are stepped."""

    def __init__(self, envs: RemoteVectorEnv, rows: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
        self.unwrapped = envs
        self._indices = np.flatnonzero(rows)

    def step(self, actions: Any) -> tuple[Any, ...]:
        """Step these rows with their part of `actions`; the others of what is returned are zeros."""
        result = self.unwrapped.step(_part(actions, self._indices), env_id=self._indices)
        return tuple(_spread(each, self._indices, self.unwrapped.num_envs) for each in result)


def _part(batch: Any, indices: np.ndarray[Any, Any]) -> Any:
    if isinstance(batch, Mapping):
        return {key: _part(value, indices) for key, value in batch.items()}
    if isinstance(batch, tuple):
        return tuple(_part(value, indices) for value in batch)
    return batch[indices]


def _spread(part: Any, indices: np.ndarray[Any, Any], num_envs: int) -> Any:
    if isinstance(part, Mapping):
        return {key: _spread(value, indices, num_envs) for key, value in part.items()}
    if isinstance(part, tuple):
        return tuple(_spread(value, indices, num_envs) for value in part)
    full = np.full((num_envs, *part.shape[1:]), None if part.dtype == object else 0, part.dtype)
    full[indices] = part
    return full


def moved(tensordict: TensorDictBase, device: torch.device | None) -> TensorDictBase:
    """Return what is in host memory on `device`, all of it by one transfer; shared with it if that is the host.

    Args:
        tensordict: A batch. Changed, unless `device` is the host.
        device: None: leave it as it is.
    """
    if device is None or device.type == "cpu":
        return tensordict if device is None else tensordict.to(device)
    leaves = [
        (key, leaf)
        for key, leaf in tensordict.items(True, True)
        if isinstance(leaf, torch.Tensor) and leaf.device.type == "cpu" and not leaf.is_nested
    ]
    # Larger elements first: each leaf then begins where its type may begin.
    leaves.sort(key=lambda item: item[1].element_size(), reverse=True)
    if leaves:
        packed = torch.cat([leaf.contiguous().view(-1).view(torch.uint8) for _, leaf in leaves])
        there = (packed.pin_memory() if device.type == "cuda" else packed).to(device, non_blocking=True)
        parts = torch.split(there, [leaf.numel() * leaf.element_size() for _, leaf in leaves])
        for (key, leaf), part in zip(leaves, parts, strict=True):
            tensordict.set(key, part.view(leaf.dtype).view(leaf.shape))
    return tensordict.to(device)
