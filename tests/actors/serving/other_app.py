"""Another team's application: `serve run` it where a server of ours comes later."""

from ray import serve


@serve.deployment
class Other:
    def __call__(self) -> str:
        return "I am the other app"


app = Other.bind()
