// A page opened from disk may start no worker, which the search needs: run it in a hidden frame instead.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      const source = new URL(url, document.baseURI).href;
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.ready = new Promise((resolve, reject) => {
        this.frame.addEventListener("load", () => {
          const inside = this.frame.contentWindow;
          inside.postMessage = (data) => {
            const copy = structuredClone(data);  // as a worker would: sender and receiver share nothing
            setTimeout(() => this.onmessage?.({ data: copy }));
          };
          const script = inside.document.createElement("script");
          script.onload = () => resolve(inside);
          script.onerror = reject;
          script.src = source;
          inside.document.head.append(script);
        }, { once: true });
      });
      this.ready.catch((event) => this.onerror?.(event));
      this.frame.srcdoc = "<!doctype html><title>search</title>";
      document.documentElement.append(this.frame);
    }

    postMessage(data) {
      const copy = structuredClone(data);
      this.ready.then((inside) => inside.onmessage({ data: copy }), () => {});
    }

    terminate() {
      this.frame.remove();
    }
  };
}
