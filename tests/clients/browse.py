#!/usr/bin/env python3
"""Opens the report in headless Chromium over its DevTools pipe, and says as JSON what a reader would find.

usage: browse.py CHROMIUM PAGE FOLDER

At two widths and in grey: what the console says, the charts and their sizes, what a selection of everything holds,
whether anything sticks out. Screenshots of the sections that have charts, and the PDF, are written into FOLDER. Python 3
and nothing else.
"""
import base64
import fcntl
import json
import os
import pathlib
import select
import subprocess
import sys
import tempfile
import time

PATIENCE = 60  # seconds, for any one answer
TALLEST = 1800  # pixels of one screenshot
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
         "--remote-debugging-pipe"]

LOOK = """(() => {
  const box = e => { const b = e.getBoundingClientRect(); return [b.width, b.height]; };
  getSelection().selectAllChildren(document.body);
  const selected = getSelection().toString();
  getSelection().removeAllRanges();
  const name = e => e && e.textContent;
  return {
    title: document.title,
    scripts: document.scripts.length,
    loads: performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith('data:')),
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    selected,
    charts: [...document.querySelectorAll('svg.chart')].map(svg => ({
      id: svg.id,
      shown: getComputedStyle(svg).display !== 'none',
      box: box(svg),
      role: svg.getAttribute('role'),
      title: name(svg.querySelector('title')),
      description: name(svg.querySelector('desc')),
      shapes: svg.querySelectorAll('path').length,
      texts: [...svg.querySelectorAll('text')].map(name),
      letters: [...svg.querySelectorAll('text')].map(t => t.getBoundingClientRect().height),
      outside: [...svg.querySelectorAll('text')].filter(t => {
        const a = t.getBoundingClientRect(), b = svg.getBoundingClientRect();
        return a.left < b.left - 2 || a.right > b.right + 2 || a.top < b.top - 2 || a.bottom > b.bottom + 2;
      }).map(name),
    })),
    sections: [...document.querySelectorAll('header,section')].map(e => {
      const b = e.getBoundingClientRect();
      return {id: e.id || 'top', y: b.top + scrollY, height: b.height,
              pictured: e.id === 'answers' || !e.id || e.querySelector('svg.chart') !== null};
    }),
  };
})()"""


class Browser:
    def __init__(self, program):
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        from_us, self.ask = os.pipe()
        self.answers, to_us = os.pipe()
        # The browser reads from descriptor 3 and writes to 4; the shell puts ours there, from where they can't collide.
        from_us, to_us = (fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (from_us, to_us))
        command = f'exec "$@" 3<&{from_us} 4>&{to_us} {from_us}<&- {to_us}>&-'
        self.process = subprocess.Popen(
            ["bash", "-c", command, "bash", program, *FLAGS, f"--user-data-dir={self.folder.name}", "about:blank"],
            pass_fds=[from_us, to_us], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(from_us)
        os.close(to_us)
        self.buffer, self.number, self.events = b"", 0, []

    def read(self, until):
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.answers], [], [], max(0, until - time.monotonic()))
            data = os.read(self.answers, 1 << 20) if ready else b""
            if not data:
                sys.exit("chromium did not answer" if not ready else "chromium ended")
            self.buffer += data
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, session=None, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.ask, data):]
        until = time.monotonic() + PATIENCE
        while True:
            message = self.read(until)
            if message.get("id") == self.number:
                if "error" in message:
                    sys.exit(f"{method}: {message['error']}")
                return message["result"]
            self.events.append(message)

    def wait(self, method):
        until = time.monotonic() + PATIENCE
        while not any(event["method"] == method for event in self.events):
            self.events.append(self.read(until))

    def close(self):
        self.call("Browser.close")
        self.process.wait(PATIENCE)
        self.folder.cleanup()


def console(events):
    said = []
    for event in events:
        method, about = event["method"], event.get("params", {})
        if method == "Runtime.consoleAPICalled":
            said.append(f"{about['type']}: {about['args']}")
        elif method == "Runtime.exceptionThrown":
            said.append(f"exception: {about['exceptionDetails']}")
        elif method == "Log.entryAdded":
            said.append(f"{about['entry']['level']}: {about['entry']['text']}")
    return said


def look(browser, address, folder, name, width, grey=False):
    target = browser.call("Target.createTarget", url="about:blank")["targetId"]
    session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    call = lambda method, **parameters: browser.call(method, session, **parameters)
    for domain in ["Page", "Runtime", "Log"]:
        call(f"{domain}.enable")
    call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 700)
    if grey:
        call("Emulation.setEmulatedVisionDeficiency", type="achromatopsia")
    browser.events = []
    call("Page.navigate", url=address)
    browser.wait("Page.loadEventFired")
    found = call("Runtime.evaluate", expression=LOOK, returnByValue=True)["result"]["value"]
    for section in found["sections"]:
        clip = {"x": 0, "y": section["y"], "width": width, "height": min(section["height"], TALLEST), "scale": 1}
        if section["pictured"]:
            png = call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)["data"]
            (folder / f"{name}-{section['id']}.png").write_bytes(base64.b64decode(png))
    found["pdf"] = None
    if not grey and width > 700:
        pdf = call("Page.printToPDF", preferCSSPageSize=True, printBackground=False)["data"]
        found["pdf"] = str(folder / "report.pdf")
        pathlib.Path(found["pdf"]).write_bytes(base64.b64decode(pdf))
    found["console"] = console(browser.events)
    browser.call("Target.closeTarget", targetId=target)
    return found


def main():
    program, page, folder = sys.argv[1], pathlib.Path(sys.argv[2]).resolve(), pathlib.Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    browser = Browser(program)
    found = {
        "wide": look(browser, page.as_uri(), folder, "wide", 1280),
        "narrow": look(browser, page.as_uri(), folder, "narrow", 390),
        "grey": look(browser, page.as_uri(), folder, "grey", 1280, grey=True),
    }
    browser.close()
    json.dump(found, sys.stdout)


main()
