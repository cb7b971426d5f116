// Does Java believe these chains? The trust manager that its HTTP clients use is asked.
//
// usage: java Verify.java ROOT.pem CHAIN.pem [CHAIN.pem ...]     one line a chain: "accepted", or "refused: " and why
import java.io.*; import java.nio.file.*; import java.security.*; import java.security.cert.*; import java.util.*; import javax.net.ssl.*;

public class Verify {
  static X509Certificate[] certificates(String path) throws Exception {
    try (InputStream in = Files.newInputStream(Path.of(path))) {
      return CertificateFactory.getInstance("X.509").generateCertificates(in).toArray(new X509Certificate[0]);
    }
  }

  public static void main(String[] a) throws Exception {
    KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
    store.load(null, null);
    store.setCertificateEntry("root", certificates(a[0])[0]);
    TrustManagerFactory factory = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    factory.init(store);
    X509TrustManager manager = (X509TrustManager) factory.getTrustManagers()[0];
    for (String path : List.of(a).subList(1, a.length)) {
      try {
        manager.checkServerTrusted(certificates(path), "ECDHE_ECDSA");
        System.out.println("accepted");
      } catch (CertificateException e) {
        StringBuilder why = new StringBuilder("refused:");
        for (Throwable t = e; t != null; t = t.getCause()) why.append(' ').append(t.getMessage());
        System.out.println(why.toString().replace('\n', ' '));
      }
    }
  }
}
