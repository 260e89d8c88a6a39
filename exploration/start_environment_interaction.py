"""Use an environment that runs somewhere else. Start `start_remote_environment.py` first."""

import argparse

from remote_gym import RemoteEnvironment


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-u", "--url", default="127.0.0.1", help="address of the server (default: %(default)s)")
    parser.add_argument("-p", "--port", type=int, default=56765, help="its port (default: %(default)s)")
    parser.add_argument("--root_certificate", help="CA that signed the server's certificate")
    parser.add_argument("--client_certificate", help="certificate of this client, if the server requires one")
    parser.add_argument("--client_private_key", help="its private key")
    parser.add_argument("--render_mode", choices=["human", "rgb_array"], help="human: show a window on this machine")
    parser.add_argument("--steps", type=int, default=1000, help="how many, at random (default: %(default)s)")
    return parser.parse_args()


def main() -> None:
    """Step with random actions."""
    arguments = parse_arguments()
    credentials = (arguments.root_certificate, arguments.client_certificate, arguments.client_private_key)
    with RemoteEnvironment(
        url=arguments.url,
        port=arguments.port,
        client_credentials_paths=credentials if any(credentials) else None,
        render_mode=arguments.render_mode,
    ) as environment:
        environment.reset()
        episode_reward = 0.0
        for step in range(1, arguments.steps + 1):
            action = environment.action_space.sample()
            _observation, reward, terminated, truncated, _info = environment.step(action)
            episode_reward += reward
            if terminated or truncated:
                print(f"episode over at step {step}, return {episode_reward:.1f}")
                environment.reset()
                episode_reward = 0.0
        print(f"{arguments.steps} steps on {environment}")
        if arguments.render_mode == "rgb_array":
            frame = environment.render()
            print(f"the last frame: {frame.shape} {frame.dtype}")


if __name__ == "__main__":
    main()
