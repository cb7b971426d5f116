// Java's own HTTP client. usage: java Ask.java http|https|direct RELAY-HOST RELAY-PORT URL CA.pem
//
// http: java.net.http.HttpClient. It knows no https:// proxies and can't be led elsewhere, so those two ways are
// walked with its TLS sockets. Prints "status N", or what went wrong and exits 4.
import java.io.*; import java.net.*; import java.net.http.*; import java.nio.charset.StandardCharsets; import java.nio.file.*; import java.security.*; import java.security.cert.*; import java.time.Duration; import javax.net.ssl.*;

public class Ask {
  public static void main(String[] a) throws Exception {
    String way = a[0], host = a[1];
    int port = Integer.parseInt(a[2]);
    URI url = URI.create(a[3]);
    KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
    store.load(null, null);
    try (InputStream in = Files.newInputStream(Path.of(a[4]))) {
      store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(in));
    }
    TrustManagerFactory factory = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    factory.init(store);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(null, factory.getTrustManagers(), null);
    int status = 0;
    try {
      status = way.equals("http") ? client(context, host, port, url) : sockets(context, way, host, port, url);
    } catch (Exception e) {
      for (Throwable t = e; t != null; t = t.getCause()) System.out.println(t);
      System.exit(4);
    }
    System.out.println("status " + status);
    System.exit(status < 400 ? 0 : 3);
  }

  static int client(SSLContext context, String host, int port, URI url) throws Exception {
    HttpClient client = HttpClient.newBuilder().proxy(ProxySelector.of(new InetSocketAddress(host, port)))
        .sslContext(context).connectTimeout(Duration.ofSeconds(20)).build();
    HttpRequest request = HttpRequest.newBuilder(url).timeout(Duration.ofSeconds(20))
        .header("Content-Type", "application/json").POST(HttpRequest.BodyPublishers.ofString("{}")).build();
    return client.send(request, HttpResponse.BodyHandlers.ofString()).statusCode();
  }

  static int sockets(SSLContext context, String way, String host, int port, URI url) throws Exception {
    Socket socket = new Socket(host, port);
    if (way.equals("https")) {
      socket = tls(context, socket, host, port);
      String authority = url.getHost() + ":443";
      int status = say(socket, "CONNECT " + authority + " HTTP/1.1\r\nHost: " + authority + "\r\n\r\n");
      if (status != 200) return status;
    }
    socket = tls(context, socket, url.getHost(), 443);
    return say(socket, "POST " + url.getPath() + " HTTP/1.1\r\nHost: " + url.getHost()
        + "\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
  }

  static Socket tls(SSLContext context, Socket below, String host, int port) throws Exception {
    SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket(below, host, port, true);
    SSLParameters parameters = socket.getSSLParameters();
    parameters.setEndpointIdentificationAlgorithm("HTTPS");
    socket.setSSLParameters(parameters);
    socket.startHandshake();
    return socket;
  }

  /** Sends text and gives the status of the answer, whose head alone is read. */
  static int say(Socket socket, String text) throws Exception {
    socket.getOutputStream().write(text.getBytes(StandardCharsets.US_ASCII));
    StringBuilder head = new StringBuilder();
    for (int b; !head.toString().endsWith("\r\n\r\n") && (b = socket.getInputStream().read()) >= 0;) head.append((char) b);
    return Integer.parseInt(head.toString().split(" ")[1]);
  }
}
