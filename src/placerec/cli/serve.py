"""``placerec serve``: a local page for an index."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from threading import Thread
from typing import Any

import click

from placerec.cli.commands import Command
from placerec.cli.options import (
    PATH,
    false_alarm_option,
    given,
    index_model_options,
    query_setting_options,
    refuse_unused,
)
from placerec.cli.output import say, warn
from placerec.runtime import Runtime


@click.command(cls=Command)
@click.argument("index", type=PATH)
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True,
              help="Where the page is on this machine; 0 takes a free port.")  # fmt: skip
@click.option("--browser/--no-browser", default=True, show_default=True,
              help="Open the page in the browser.")  # fmt: skip
@click.option("--tiles", metavar="URL", default="",
              help="Load a map from this address, https://HOST/{z}/{x}/{y}.png. Without it "
                   "the page uses no network.")  # fmt: skip
@false_alarm_option
@index_model_options
@query_setting_options
def serve(
    index: Path, port: int, browser: bool, tiles: str, false_alarm: float, model: str,
    threads: int | None, device: str, **options: Any,
) -> None:  # fmt: skip
    """Show INDEX on a page in the browser: drop a photo, see where it was taken.

    Only this machine can open the page. Ctrl-C ends it.

    In Python: placerec.serve.PageServer(placerec.serve.ServedIndex.open(INDEX)).serve_forever().
    """
    from placerec.serve import PageServer, ServedIndex

    runtime = Runtime(threads=threads, device=device)
    with ServedIndex.open(
        index, model=model, runtime=runtime, false_alarm=false_alarm, **given(options)
    ) as served:
        refuse_unused(served.settings, options)
        warn(*filter(None, [served.slower]))
        with PageServer(served, port, tiles=tiles, log=warn) as server:
            say(f"page: {server.address}", "Ctrl-C ends it.")
            if browser:
                # In a thread: a browser in the terminal runs until it is closed.
                Thread(target=webbrowser.open, args=(server.address,), daemon=True).start()
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                say("ended")
